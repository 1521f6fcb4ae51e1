/** Draws detections over a picture. Pure drawing: everything it needs is passed in. */

const COLOURS = { face: "#5eead4", motion: "#fbbf24", object: "#93c5fd" };
const OTHER = "#c4b5fd";
const FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const SMALL_LABEL = { font: `600 10.5px ${FAMILY}`, height: 15, padding: 4 };
const LABEL = { font: `600 12px ${FAMILY}`, height: 18, padding: 5 };
const SMALL_BELOW_WIDTH = 640;

export function colourOf(kind) {
  return COLOURS[kind] ?? OTHER;
}

/**
 * Where a picture of this size stands in an area when it is contained in it, in CSS pixels.
 *
 * @returns {{x: number, y: number, width: number, height: number}}
 */
export function contain(pictureWidth, pictureHeight, areaWidth, areaHeight) {
  const scale = Math.min(areaWidth / pictureWidth, areaHeight / pictureHeight);
  const width = pictureWidth * scale;
  const height = pictureHeight * scale;
  return { x: (areaWidth - width) / 2, y: (areaHeight - height) / 2, width, height };
}

/**
 * Draw all detections.
 *
 * @param {CanvasRenderingContext2D} context in CSS pixels, already cleared
 * @param {Array<{kind: string, label: string, score: number, box: number[], landmarks: number[][]}>} detections
 * @param {{x: number, y: number, width: number, height: number}} area where the picture stands
 * @param {{labels: boolean}} options
 */
export function drawDetections(context, detections, area, { labels }) {
  for (const detection of detections) {
    const quiet = detection.kind === "motion"; // many at once, and their score says little
    const [left, top, width, height] = detection.box;
    const box = {
      x: area.x + left * area.width,
      y: area.y + top * area.height,
      width: width * area.width,
      height: height * area.height,
    };
    const colour = colourOf(detection.kind);
    drawBox(context, box, colour, quiet ? 0.75 : 1);
    if (labels && !quiet && box.width >= 28) drawLabel(context, box, area, colour, detection);
  }
}

function drawBox(context, box, colour, opacity) {
  context.globalAlpha = opacity;
  const corner = Math.min(14, box.width / 3, box.height / 3);
  context.lineJoin = "round";
  context.lineCap = "round";
  // A dark line beneath keeps the light one readable on any picture.
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = 3;
  context.strokeRect(box.x, box.y, box.width, box.height);
  context.strokeStyle = colour;
  context.lineWidth = 1.25;
  context.strokeRect(box.x, box.y, box.width, box.height);
  context.lineWidth = 2.5;
  context.beginPath();
  for (const [x, y, dx, dy] of [
    [box.x, box.y, corner, corner],
    [box.x + box.width, box.y, -corner, corner],
    [box.x, box.y + box.height, corner, -corner],
    [box.x + box.width, box.y + box.height, -corner, -corner],
  ]) {
    context.moveTo(x + dx, y);
    context.lineTo(x, y);
    context.lineTo(x, y + dy);
  }
  context.stroke();
  context.globalAlpha = 1;
}

function drawLabel(context, box, area, colour, { label, score, track_id, person }) {
  const style = area.width < SMALL_BELOW_WIDTH ? SMALL_LABEL : LABEL;
  context.font = style.font;
  const measure = (text) => Math.ceil(context.measureText(text).width) + 2 * style.padding;
  const name = track_id === null || person ? label : `${label} ${track_id}`;
  const full = `${name}  ${Math.round(score * 100)} %`;
  const text = measure(full) <= Math.max(box.width + 24, 56) ? full : name;
  const width = measure(text);
  const x = Math.max(area.x, Math.min(box.x - 1, area.x + area.width - width));
  const y = labelTop(box, area, style.height);
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x, y, width, style.height, 4);
  context.fill();
  context.fillStyle = "#0b0f14";
  context.textBaseline = "middle";
  context.fillText(text, x + style.padding, y + style.height / 2 + 0.5);
}

/** Above the box, else below it, else inside: never over the face if there is room. */
function labelTop(box, area, height) {
  const above = box.y - height - 2;
  if (above >= area.y) return above;
  const below = box.y + box.height + 2;
  return below + height <= area.y + area.height ? below : box.y + 2;
}
