/** What a value that came over the wire may be. */

export const isUnit = (value) => typeof value === "number" && value >= 0 && value <= 1;
export const isText = (value, most) => typeof value === "string" && value.length >= 1 && [...value].length <= most;
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const isWhole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;
export const isString = (value) => typeof value === "string";
export const isNumber = (value) => typeof value === "number";
