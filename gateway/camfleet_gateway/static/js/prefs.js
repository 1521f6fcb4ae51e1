/** Small choices that this browser remembers; forgotten where storage is forbidden. */

export function remembered(name, choices, otherwise) {
  try {
    const value = localStorage.getItem(`camfleet.${name}`);
    return choices.includes(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`camfleet.${name}`, value);
  } catch {
    // The choice holds for this page.
  }
}
