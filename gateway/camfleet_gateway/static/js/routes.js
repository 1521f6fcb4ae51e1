/** Where one is on the page: the part of the address after `#`. */

/** In the order of the navigation; `role` is the least that it is of use to. */
export const PLACES = [
  { name: "cameras", label: "Cameras", symbol: "grid", href: "#/" },
  { name: "events", label: "Events", symbol: "events", href: "#/events" },
  { name: "people", label: "People", symbol: "people", href: "#/people" },
  { name: "alerts", label: "Alerts", symbol: "bell", href: "#/alerts" },
  { name: "search", label: "Search", symbol: "search", href: "#/search", role: "operator" },
];

/**
 * Read an address.
 *
 * @returns {{place: string, id: string | null, filters: URLSearchParams}} an unknown one is the cameras
 */
export function parseRoute(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const filters = new URLSearchParams(query);
  const [first, second, ...rest] = path.split("/");
  const id = second && rest.length === 0 ? decode(second) : null;
  if (first === "camera" && id !== null) return { place: "camera", id, filters };
  if (first === "people" && id !== null) return { place: "person", id, filters };
  if (["events", "people", "alerts", "search"].includes(first)) return { place: first, id: null, filters };
  return { place: "cameras", id: null, filters };
}

/** Address of a place, with what is set of the filters. */
export function address(place, filters = {}) {
  const entries = filters instanceof URLSearchParams ? [...filters] : Object.entries(filters);
  const query = new URLSearchParams(entries.filter(([, value]) => value !== null && value !== undefined && value !== ""));
  return query.size ? `#/${place}?${query}` : `#/${place}`;
}

export const cameraAddress = (id) => `#/camera/${encodeURIComponent(id)}`;
export const personAddress = (id) => `#/people/${encodeURIComponent(id)}`;

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
