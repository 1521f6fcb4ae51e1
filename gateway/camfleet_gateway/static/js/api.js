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

/**
 * Call the gateway.
 *
 * @returns the decoded JSON, or null for 204
 * @throws {ApiError}
 */
export async function call(method, path, body) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0);
  }
  if (answer.status === 204) return null;
  let content = {};
  try {
    content = await answer.json();
  } catch {
    // An error page of a proxy; the status says enough.
  }
  if (!answer.ok) throw new ApiError(answer.status, content.error ?? { code: "http", message: `Error ${answer.status}` });
  return content;
}

const camera = (id) => `/api/cameras/${encodeURIComponent(id)}`;

export const session = () => call("GET", "/api/session");
export const listEvents = (limit = 100) => call("GET", `/api/events?limit=${limit}`);
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
