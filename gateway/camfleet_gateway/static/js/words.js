/** What states, reasons and figures are called. */

export const STATE_WORDS = Object.freeze({
  live: "Live",
  stale: "No picture",
  connecting: "Connecting",
  offline: "Offline",
  suspended: "Paused",
});

const REASONS = {
  NoWorker: "No worker is connected",
  SourceUnavailable: "The camera cannot be reached",
  SourceRefused: "The camera refuses the connection",
  SourceTimeout: "The camera does not answer",
  AuthFailed: "The camera refuses the user name or password",
  AuthStopped: "The camera refuses the user name or password",
  SourceEnded: "The file has come to its end",
  SourceMissing: "The file does not exist",
  NoFrames: "The camera sends no pictures",
  PictureFrozen: "The picture is frozen",
  EventsNotKept: "Events cannot be kept: the worker’s disk takes none",
  Connecting: "Waiting for the first picture",
  Suspended: "Paused by a user",
  ModelMissing: "Detection is off: the model’s file is missing",
  CrashLoop: "The worker keeps failing",
};

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A worker is there and fails to get a first picture: not the ordinary second or two of connecting. */
export function isTroubled({ state, reason }) {
  return state === "connecting" && reason !== "" && reason !== "Connecting";
}

/** Pictures come, and are all the same: it looks live and is not. */
export function isFrozen({ state, reason }) {
  return state === "live" && reason === "PictureFrozen";
}

/** Whether somebody should look after this camera. */
export function needsAttention(info) {
  return info.state === "stale" || info.state === "offline" || isTroubled(info) || isFrozen(info);
}

/** The word on the badge. */
export function stateWord(info) {
  if (isFrozen(info)) return "Frozen";
  return isTroubled(info) ? "No connection" : STATE_WORDS[info.state];
}

/** Why a camera is in its state, for people; empty when there is nothing to say. */
export function reasonText({ reason, message }) {
  if (REASONS[reason]) return REASONS[reason];
  if (message) return capital(message);
  return reason ? capital(reason.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()) : "";
}

/** The worker's own words, when they say more than the reason does. */
export function detailText(info) {
  const detail = capital(info.message ?? "");
  return detail && detail.toLowerCase() !== reasonText(info).toLowerCase() ? detail : "";
}

/** A length of time in its two largest useful units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** Age of a picture: milliseconds while it is fresh. */
export function age(milliseconds) {
  if (milliseconds === null || !Number.isFinite(milliseconds)) return "–";
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  return milliseconds < 10_000 ? `${(milliseconds / 1000).toFixed(1)} s` : duration(milliseconds / 1000);
}

/** Pictures per second, without noise. */
export function rate(fps) {
  return fps >= 9.95 ? String(Math.round(fps)) : fps.toFixed(1).replace(/\.0$/, "");
}

export function viewers(count) {
  return count === 1 ? "1 viewer" : `${count} viewers`;
}

const SOURCES = {
  rtsp: "RTSP camera",
  http: "HTTP camera",
  file: "Video file",
  device: "Attached camera",
  testPattern: "Test pattern",
};

export function sourceWords(type) {
  return SOURCES[type] ?? "Unknown source";
}

const DETECTORS = { yunet: "Faces", motion: "Motion", scrfd: "Faces (SCRFD)", yolox: "Objects", mock: "Mock" };

export function detectorWords(name) {
  return DETECTORS[name] ?? name;
}

/** `namespace.name` without the namespace that everybody uses. */
export function shortName(id) {
  return id.startsWith("default.") ? id.slice("default.".length) : id;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

const LATEST_MS = 32_503_680_000_000; // the year 3000

/** Unix seconds as a date; what is none, or too far away to be shown, as the nearest that can be. */
export function dateOf(unixSeconds) {
  return new Date(Math.min(Math.max(Number(unixSeconds) * 1000 || 0, 0), LATEST_MS));
}

/** When an event was: the time, with the day unless it is today. */
export function when(unixSeconds, now = Date.now()) {
  const date = dateOf(unixSeconds);
  const today = new Date(now).toDateString() === date.toDateString();
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" });

/** The day of a time: today, yesterday, or its date. */
export function dayWords(unixSeconds, now = Date.now()) {
  const date = dateOf(unixSeconds);
  const back = (days) => {
    const other = new Date(now);
    other.setDate(other.getDate() - days);
    return other.toDateString();
  };
  if (date.toDateString() === back(0)) return "Today";
  return date.toDateString() === back(1) ? "Yesterday" : longDay.format(date);
}
