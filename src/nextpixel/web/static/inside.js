// Inside: what a pixel sees, and the taps of the convolutions.

import { floatsIn, get, post } from "./api.js";
import { heat, paint, rgb, style } from "./pixels.js";
import { Latest, ask, complain, element, option, say, state } from "./state.js";

const latest = new Latest(), picked = element("inside-strength"), CHANNELS = ["red", "green", "blue"];
const CAPTIONS = Object.fromEntries(["strength", "seen", "plain"].map((part) => [part, element(`inside-${part}-text`).textContent]));
let cursor = null, layers = [], shownFor = null, last = null;

export async function inside() {
  if (state.model.inside) { say(state.model.inside, true); return; }
  if (shownFor === state.model.name) return;
  shownFor = state.model.name;
  const [channels, height, width] = state.model.shape;
  cursor = [height >> 1, width >> 1];
  blank();
  await field();
  try {
    layers = (await get(`/api/masks?${new URLSearchParams({ model: state.model.name })}`)).layers;
    element("inside-layer").replaceChildren(...layers.map((layer, k) => option(k, `${layer.name} (${layer.mask === "vertical" ? "vertical stack" : `mask ${layer.mask}`})`)));
    const several = layers.some((layer) => layer.taps.length > 1);
    for (const end of ["from", "to"]) {
      element(`inside-${end}-label`).hidden = !several;
      element(`inside-${end}`).replaceChildren(...Array.from({ length: several ? channels : 1 }, (_, c) => option(c, CHANNELS[c])));
    }
    const first = layers.findIndex((layer) => layer.mask === "A");
    element("inside-layer").value = Math.max(first, 0);
    mask();
  } catch (error) { complain(error); }
}

async function field() {
  const [row, column] = cursor, signal = latest.begin();
  if (last) { last.row = row; last.column = column; redraw(true); }
  say("Taking gradients…");
  try {
    last = await post("/api/field", ask({ row, column }), signal);
    last.strengths = floatsIn(last.strength);
    redraw(false);
    say("");
  } catch (error) { shownFor = null; complain(error); }
}

// What is there before the first answer: of the right size, so that nothing jumps when it comes.
function blank() {
  const [, height, width] = state.model.shape, not = rgb(style("--field"));
  for (const part of ["strength", "seen", "plain"]) {
    paint(element(`inside-${part}`), height, width, () => not);
    element(`inside-${part}-text`).textContent = CAPTIONS[part];
  }
}

export function redraw(waiting = false) {
  if (!last) return;
  const [, height, width] = state.model.shape, { row, column, before } = last;
  const here = rgb(style("--ink")), not = rgb(style("--field")), yes = rgb(style("--accent")), blind = [196, 62, 40];
  const pixel = (inner) => (i, j) => (i === row && j === column ? here : before[i][j] ? inner(i, j) : not);
  if (waiting) { paint(picked, height, width, (i, j) => (i === row && j === column ? here : not)); return; }
  paint(picked, height, width, pixel((i, j) => heat(1 + Math.log10(Math.max(last.strengths[i * width + j], 1e-6)) / 6)));
  paint(element("inside-seen"), height, width, pixel((i, j) => (last.seen[i][j] ? yes : blind)));
  paint(element("inside-plain"), height, width, pixel((i, j) => (last.plain[i][j] ? yes : blind)));
  element("inside-strength-text").textContent = `How strongly each earlier pixel counts at row ${row}, column ${column}: bright is the strongest, black a millionth of it or nothing`;
  element("inside-seen-text").textContent = `Seen at all by this ${last.family}: ${last.seen_count} of ${last.before_count} earlier pixels; red is never seen`;
  element("inside-plain-text").textContent = `By a plain PixelCNN that reaches every edge: ${last.plain_count} of ${last.before_count}; red is its blind spot`;
}

function pick(where) {
  if (where[0] === cursor[0] && where[1] === cursor[1] && last) return;
  cursor = where;
  field();
}
picked.addEventListener("click", (event) => {
  if (!cursor) return;
  const box = picked.getBoundingClientRect(), [, height, width] = state.model.shape;
  pick([Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1), Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1)]);
});
picked.addEventListener("keydown", (event) => {
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!move || !cursor) return;
  event.preventDefault();
  const [, height, width] = state.model.shape;
  pick([Math.min(Math.max(cursor[0] + move[0], 0), height - 1), Math.min(Math.max(cursor[1] + move[1], 0), width - 1)]);
});

function mask() {
  const layer = layers[element("inside-layer").value];
  if (!layer) return;
  const from = layer.taps[element("inside-from").value] ?? layer.taps[0], taps = from[element("inside-to").value] ?? from[0];
  const grid = element("inside-mask"), cells = [];
  grid.style.gridTemplateColumns = `repeat(${taps[0].length}, max-content)`;
  taps.forEach((line, i) => line.forEach((on, j) => {
    const cell = document.createElement("span");
    cell.className = (on ? "on" : "") + (i === layer.centre[0] && j === layer.centre[1] ? " here" : "");
    cells.push(cell);
  }));
  grid.replaceChildren(...cells);
  const count = taps.flat().reduce((sum, on) => sum + on, 0);
  const what = layer.mask === "vertical" ? "The vertical stack runs on rows that were shifted down by one, so its own row is finished too."
    : layer.mask === "A" ? "Mask A: the pixel itself is not seen, only earlier channels of it." : "Mask B: of the pixel itself, its own and earlier channels are seen.";
  element("inside-mask-text").textContent = `${count} of ${taps.flat().length} taps; the ring is the current pixel. ${what}`;
  grid.setAttribute("aria-label", `${layer.name}: ${count} taps`);
}
for (const id of ["inside-layer", "inside-from", "inside-to"]) element(id).addEventListener("change", mask);

export const leaveInside = () => latest.stop();
export function forgetInside() { latest.stop(); shownFor = last = null; layers = []; element("inside-mask").replaceChildren(); element("inside-mask-text").textContent = ""; }
