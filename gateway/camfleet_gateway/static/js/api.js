/** The REST interface of the gateway, and the token that opens it. */

const TOKEN_KEY = "camfleet.token";
const TIMEOUT_MS = 15_000;

/** An answer that is not a success; `status` is 0 when the gateway could not be reached. */
export class ApiError extends Error {
  constructor(status, { code = "unreachable", message = "The gateway cannot be reached", problems = [] } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.problems = problems;
  }
}

let memory = "";

/** The token lives as long as the tab: sessionStorage, or memory where storage is forbidden. */
export const token = {
  get() {
    try {
      return sessionStorage.getItem(TOKEN_KEY) ?? memory;
    } catch {
      return memory;
    }
  },
  set(value) {
    memory = value;
    try {
      if (value) sessionStorage.setItem(TOKEN_KEY, value);
      else sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      // kept in memory
    }
  },
};

/** @throws {ApiError} */
async function request(method, path, { body, type, timeout = TIMEOUT_MS, signal } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (type) headers["Content-Type"] = type;
  const limits = [AbortSignal.timeout(timeout), signal].filter(Boolean);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body,
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.any(limits),
    });
  } catch {
    throw cutOff(signal);
  }
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({})); // an error page of a proxy; the status says enough
    throw new ApiError(answer.status, error ?? { code: "http", message: `Error ${answer.status}` });
  }
  return answer;
}

const cutOff = (signal) => new ApiError(0, signal?.aborted ? { code: "aborted", message: "No longer wanted" } : undefined);

/** The JSON of an answer; null for 204. @throws {ApiError} it ends too early, by whoever's will */
async function decoded(answer, signal) {
  if (answer.status === 204) return null;
  try {
    return await answer.json();
  } catch {
    throw cutOff(signal);
  }
}

/**
 * Call the gateway.
 *
 * @returns the decoded JSON, or null for 204
 * @throws {ApiError}
 */
export async function call(method, path, body, options = {}) {
  const content = body === undefined ? {} : { body: JSON.stringify(body), type: "application/json" };
  const answer = await request(method, path, { ...options, ...content });
  return decoded(answer, options.signal);
}

/** Send a file as it is; the answer is decoded JSON. @throws {ApiError} */
export async function send(path, file, { type = file.type, ...options } = {}) {
  const answer = await request("POST", path, { body: file, type: type || "application/octet-stream", ...options });
  return decoded(answer, options.signal);
}

/** Get something that is not JSON, such as a picture. @throws {ApiError} */
export async function fetchBlob(path, options = {}) {
  const answer = await request("GET", path, options);
  try {
    return await answer.blob();
  } catch {
    throw new ApiError(0); // cut off
  }
}

/** Get a part of an archive, and the cursor of the next part, if there is one. @throws {ApiError} */
export async function fetchPart(path, options = {}) {
  const answer = await request("GET", path, options);
  try {
    return { blob: await answer.blob(), next: answer.headers.get("X-Next-Cursor") };
  } catch {
    throw new ApiError(0);
  }
}

/** `?a=1&b=2` of what is set, or nothing. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

const camera = (id) => `/api/cameras/${encodeURIComponent(id)}`;

export const session = () => call("GET", "/api/session");
export const getCamera = (id) => call("GET", camera(id));
export const addCamera = (document) => call("POST", "/api/cameras", document);
export const changeCamera = (id, controls) => call("PATCH", camera(id), controls);
export const removeCamera = (id) => call("DELETE", camera(id));
export const setStreaming = (id, on) =>
  call("POST", `/cameras/${encodeURIComponent(id)}/stream/${on ? "start" : "stop"}`);

/** Address of one still picture, good for a minute, that an `<a>` or `<img>` can open. */
export async function snapshotUrl(id, annotated) {
  const { ticket } = await call("POST", "/api/tickets", { camera: id, action: "snapshot" });
  const query = new URLSearchParams({ annotated: annotated ? "1" : "0", ticket });
  return `/cameras/${encodeURIComponent(id)}/snapshot.jpg?${query}`;
}
