/** Short notes on what is recognised and kept. */

import { h, setText } from "./dom.js";

const cameras = (count) => (count === 1 ? "1 camera" : `${count} cameras`);
const days = (count) => (count === 1 ? "1 day" : `${count} days`);

/** Whether faces are compared with the enrolled people on this camera. */
export function recognises({ settings }) {
  const inference = settings?.inference ?? {};
  const keeps = settings?.privacy === undefined || settings.privacy.retentionDays != null;
  return Boolean(inference.enabled && inference.faceRecognition?.enabled && keeps);
}

/** What recognition does on one camera, in words. */
export function recognitionWords(info) {
  if (!info.settings?.inference) return null;
  if (recognises(info)) return "on";
  if (!info.settings.inference.faceRecognition?.enabled) return "off";
  return info.settings.inference.enabled ? "off: no retention is set" : "off: detection is off";
}

/** For how long events of one camera are kept, in words; null if the gateway's own time applies. */
export function retentionWords(info) {
  const kept = info.settings?.privacy?.retentionDays;
  return kept ? days(kept) : null;
}

/** A line that says on how many cameras faces are recognised; follows the store. */
export function keptNote(store, signal) {
  const note = h("p", { class: "hint privacy-note" });
  const show = () => {
    if (!store.loaded) return;
    const infos = [...store.cameras.values()].map(({ info }) => info);
    const on = infos.filter(recognises);
    const kept = on.map((info) => info.settings?.privacy?.retentionDays).filter(Boolean);
    let text = "Face recognition is off on every camera.";
    if (on.length) {
      text = `Faces are recognised on ${on.length === infos.length ? `all ${cameras(infos.length)}` : `${on.length} of ${cameras(infos.length)}`}.`;
      if (kept.length) {
        const [least, most] = [Math.min(...kept), Math.max(...kept)];
        text += ` What they see is deleted after ${least === most ? days(most) : `${least} to ${days(most)}`}.`;
      }
    }
    setText(note, infos.length ? text : "");
  };
  store.addEventListener("list", show, { signal });
  store.addEventListener("cameras", show, { signal });
  show();
  return note;
}
