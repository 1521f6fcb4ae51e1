/** Draws detections over a picture. Pure drawing: everything it needs is passed in. */

const COLOURS = { face: "#5eead4", motion: "#fbbf24", object: "#93c5fd" };
const OTHER = "#c4b5fd";
const FONT = "600 12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const LABEL_HEIGHT = 18;

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

function drawLabel(context, box, area, colour, { label, score, track_id }) {
  context.font = FONT;
  const name = track_id === null ? label : `${label} ${track_id}`;
  const text = `${name}  ${Math.round(score * 100)} %`;
  const short = name;
  const fits = (candidate) => context.measureText(candidate).width + 10 <= Math.max(box.width + 24, 56);
  const shown = fits(text) ? text : short;
  const width = Math.ceil(context.measureText(shown).width) + 10;
  const above = box.y - LABEL_HEIGHT - 2;
  const y = above >= area.y ? above : Math.min(box.y + 2, area.y + area.height - LABEL_HEIGHT);
  const x = Math.max(area.x, Math.min(box.x - 1, area.x + area.width - width));
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x, y, width, LABEL_HEIGHT, 4);
  context.fill();
  context.fillStyle = "#0b0f14";
  context.textBaseline = "middle";
  context.fillText(shown, x + 5, y + LABEL_HEIGHT / 2 + 0.5);
}
