/** The parts of the REST interface about events, people, alerts and faces. */

import { call, query, send } from "./api.js";

const PICTURE_MS = 60_000;
const SEARCH_MS = 60_000;
const ERASE_MS = 10 * 60_000; // every face without a name is compared
export const ARCHIVE_MS = 30 * 60_000;

const event = (id) => `/api/events/${encodeURIComponent(id)}`;
const person = (id) => `/api/people/${encodeURIComponent(id)}`;
const face = (id, faceId) => `${person(id)}/faces/${encodeURIComponent(faceId)}`;

export const listEvents = (filters, options) => call("GET", `/api/events${query(filters)}`, undefined, options);
export const getEvent = (id, options) => call("GET", event(id), undefined, options);
export const deleteEvent = (id) => call("DELETE", event(id));
/** `{person_id}`, `{name, group}` or `{not_person_id}`; with `force` although the face is much like somebody else’s. */
export const tellPerson = (id, said, { force = false } = {}) =>
  call("POST", `${event(id)}/person${query({ force: force ? 1 : "" })}`, said, { timeout: PICTURE_MS });

export const listPeople = (filters, options) => call("GET", `/api/people${query(filters)}`, undefined, options);
export const getPerson = (id, options) => call("GET", person(id), undefined, options);
export const addPerson = (document) => call("POST", "/api/people", document);
export const changePerson = (id, changes) => call("PATCH", person(id), changes);
/** What erasing somebody would remove. */
export const previewErasure = (id, options) => call("GET", `${person(id)}/erasure`, undefined, { timeout: ERASE_MS, ...options });
/** `lookalikes`: "erase" or "keep" events that show them without a name. */
export const erasePerson = (id, { lookalikes }) =>
  call("DELETE", `${person(id)}${query({ lookalikes })}`, undefined, { timeout: ERASE_MS });
/** Have pictures that another model has embedded embedded by the one in use. */
export const embedAnew = () => call("POST", "/api/people/reembed");
export const listFaces = (id, options) => call("GET", `${person(id)}/faces`, undefined, options);
export const addFace = (id, picture, { force = false, signal } = {}) =>
  send(`${person(id)}/faces${query({ force: force ? 1 : "" })}`, picture, { timeout: PICTURE_MS, signal });
export const deleteFace = (id, faceId) => call("DELETE", face(id, faceId));
export const faceUrl = (id, faceId) => `${face(id, faceId)}.jpg`;
export const importPeople = (archive, type) => send("/api/people/import", archive, { type, timeout: ARCHIVE_MS });
/** How far an import is, or how the last one ended. */
export const importReport = () => call("GET", "/api/people/import");

export const listAlerts = (filters, options) => call("GET", `/api/alerts${query(filters)}`, undefined, options);
export const acknowledgeAlert = (id) => call("POST", `/api/alerts/${encodeURIComponent(id)}/acknowledge`);

export const searchByPicture = (picture, filters, signal) =>
  send(`/api/faces/search${query(filters)}`, picture, { timeout: SEARCH_MS, signal });
/** Like the face of an event or of a person. */
export const searchAlike = (filters, signal) =>
  call("GET", `/api/faces/search${query(filters)}`, undefined, { timeout: SEARCH_MS, signal });
