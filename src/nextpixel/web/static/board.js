// The picture that is drawn on, looked at, and completed.

import { get, stream, upload, levelsIn } from "./api.js";
import { Picture, levelOf, rgb, show, style } from "./pixels.js";
import { complain, element, say, state, withClass } from "./state.js";

const BLANK = "blank: draw on it, open a picture, or take one of the model’s";
const MARKS = 704, STRIPE = 16; // about the side of the canvas with the marks, and between its stripes
let zoom = 12;
const area = element("board"), marks = element("board-marks");

export const board = {
  picture: null, label: null, known: null, cursor: [0, 0], turns: null, tab: "generate",
  changed: () => {}, pointed: () => {},
};
const GOLDEN = 0.6180339887;
let testNumber = 0, sampleSeed = 0, stroke = null;

const tool = () => document.querySelector("input[name=tool]:checked").value;

export function draw() {
  if (!board.picture) return;
  show(element("board-pixels"), board.picture);
  const { height, width } = board.picture;
  zoom = Math.max(4, Math.round(MARKS / Math.max(height, width)));
  if (marks.width !== width * zoom || marks.height !== height * zoom) Object.assign(marks, { width: width * zoom, height: height * zoom });
  const context = marks.getContext("2d");
  context.clearRect(0, 0, marks.width, marks.height);
  if (board.tab === "complete") hatch(context, (at) => !board.known[at]);
  if (board.tab === "next" && board.turns) {
    const here = board.turns[board.cursor[0]][board.cursor[1]];
    context.fillStyle = style("--paper");
    context.globalAlpha = 0.72;
    each((i, j) => { if (board.turns[i][j] > here) context.fillRect(j * zoom, i * zoom, zoom, zoom); });
    context.globalAlpha = 1;
  }
  if (board.tab === "next" || document.activeElement === area) {
    const [row, column] = board.cursor, thick = Math.max(2, Math.min(zoom / 5, 6));
    context.lineWidth = thick;
    context.strokeStyle = style("--accent");
    context.strokeRect(column * zoom + thick / 2, row * zoom + thick / 2, zoom - thick, zoom - thick);
  }
}

function hatch(context, wanted) {
  const { height, width } = board.picture, cells = new Path2D();
  each((i, j) => { if (wanted(i * width + j)) cells.rect(j * zoom, i * zoom, zoom, zoom); });
  context.save();
  context.clip(cells);
  context.fillStyle = style("--unknown");
  context.fillRect(0, 0, width * zoom, height * zoom);
  context.strokeStyle = style("--accent");
  context.globalAlpha = 0.5;
  context.lineWidth = 1.5;
  context.beginPath();
  for (let at = 0; at < (height + width) * zoom; at += STRIPE) { context.moveTo(at, 0); context.lineTo(0, at); }
  context.stroke();
  context.restore();
}

function each(call) {
  for (let i = 0; i < board.picture.height; i++) for (let j = 0; j < board.picture.width; j++) call(i, j);
}

// label: the class that the picture is known to be of. What was asked for another model comes too late.
export function put(picture, note = "", label = null, model = state.model) {
  if (model !== state.model) return;
  board.picture = picture;
  board.label = label;
  board.turns = null;
  element("board-note").textContent = note;
  draw();
  board.changed();
}

export function fresh(model) {
  const [, height, width] = model.shape;
  board.known = new Uint8Array(height * width).fill(1);
  board.cursor = [height >> 1, width >> 1];
  testNumber = sampleSeed = 0;
  setHole("lower");
  const value = element("value");
  Object.assign(value, { max: model.levels - 1, value: model.levels - 1 });
  element("value-label").hidden = model.levels === 2 || model.shape[0] === 3;
  element("colour-label").hidden = model.shape[0] !== 3;
  element("take-test").hidden = !model.test_pictures;
  put(new Picture(model.shape, model.levels), BLANK);
}

export function toolsFor(tab) {
  board.tab = tab;
  for (const part of element("board-area").querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== tab;
  const wanted = { complete: "draw", next: "look" }[tab] ?? "draw";
  document.querySelector(`input[name=tool][value=${wanted}]`).checked = true;
  draw();
}

function ink() {
  const { levels, channels } = board.picture;
  if (tool() === "erase") return Array(channels).fill(0);
  if (channels === 3) return rgb(element("colour").value).map((part) => levelOf(part, levels));
  return [Number(element("value").value)];
}

function dab(row, column) {
  const size = Number(element("brush").value), from = -Math.floor((size - 1) / 2), values = ink();
  for (let i = row + from; i < row + from + size; i++) {
    for (let j = column + from; j < column + from + size; j++) {
      if (i < 0 || j < 0 || i >= board.picture.height || j >= board.picture.width) continue;
      if (tool() === "hole") board.known[i * board.picture.width + j] = 0;
      else {
        values.forEach((value, c) => board.picture.set(c, i, j, value));
        board.known[i * board.picture.width + j] = 1;
      }
    }
  }
}

function line([fromRow, fromColumn], [row, column]) {
  const steps = Math.max(Math.abs(row - fromRow), Math.abs(column - fromColumn), 1);
  for (let k = 0; k <= steps; k++) dab(Math.round(fromRow + ((row - fromRow) * k) / steps), Math.round(fromColumn + ((column - fromColumn) * k) / steps));
}

function place(event) {
  const box = area.getBoundingClientRect(), { height, width } = board.picture;
  const row = Math.floor(((event.clientY - box.top) / box.height) * height);
  const column = Math.floor(((event.clientX - box.left) / box.width) * width);
  return [Math.min(Math.max(row, 0), height - 1), Math.min(Math.max(column, 0), width - 1)];
}

function point(where) {
  if (where[0] === board.cursor[0] && where[1] === board.cursor[1]) return;
  board.cursor = where;
  draw();
  board.pointed();
}

area.addEventListener("pointerdown", (event) => {
  if (!board.picture || event.button) return;
  const where = place(event);
  point(where);
  if (tool() === "look") return;
  area.setPointerCapture(event.pointerId);
  stroke = where;
  dab(...where);
  board.turns = null;
  draw();
});
area.addEventListener("pointermove", (event) => {
  if (!board.picture) return;
  const where = place(event);
  if (stroke) { line(stroke, where); stroke = where; draw(); }
  else if (tool() === "look") point(where);
});
const lift = () => { if (stroke) { stroke = null; board.changed(); } };
area.addEventListener("pointerup", lift);
area.addEventListener("pointercancel", lift);
area.addEventListener("focus", draw);
area.addEventListener("blur", draw);
area.addEventListener("keydown", (event) => {
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!board.picture || (!move && event.key !== " ")) return;
  event.preventDefault();
  if (move) {
    const { height, width } = board.picture;
    point([Math.min(Math.max(board.cursor[0] + move[0], 0), height - 1), Math.min(Math.max(board.cursor[1] + move[1], 0), width - 1)]);
  } else if (tool() !== "look") {
    dab(...board.cursor);
    board.turns = null;
    draw();
    board.changed();
  }
});

function setHole(kind) {
  const [, height, width] = state.model.shape;
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const middle = i >= height / 4 && i < (3 * height) / 4 && j >= width / 4 && j < (3 * width) / 4;
      board.known[i * width + j] = { lower: i < height / 2, right: j < width / 2, middle: !middle, none: true }[kind] ? 1 : 0;
    }
  }
}
for (const button of element("holes").querySelectorAll("button")) {
  button.addEventListener("click", () => { setHole(button.dataset.hole); draw(); });
}

const taking = (work) => async () => { try { await work(); } catch (error) { complain(error); } };

export const takeTest = taking(async () => {
  const { model } = state;
  // Far from the one before: some sets are sorted by class.
  const number = Math.floor(((testNumber++ * GOLDEN) % 1) * state.model.test_pictures);
  const found = await get(`/api/test-picture?${new URLSearchParams({ model: state.model.name, number })}`);
  put(Picture.from(found.image, model.levels), `${found.data}, number ${found.number}${found.class === null ? "" : `, class ${found.class}`}`, found.class, model);
});
element("take-test").addEventListener("click", takeTest);
element("take-sample").addEventListener("click", taking(async () => {
  const seed = 1000 + sampleSeed++, { model } = state;
  let label = null;
  say("Drawing one…");
  await stream("/api/generate", withClass({ n: 1, seed }), (event) => {
    if (event.event === "begin") label = event.classes?.[0] ?? null;
    if (event.event === "pictures") {
      const values = Uint16Array.from(levelsIn(event.images, model.levels)), what = label === null ? "" : `, class ${label}`;
      say("");
      put(new Picture(model.shape, model.levels, values), `drawn by the model, seed ${seed}${what}`, label, model);
    }
  });
}));
element("take-blank").addEventListener("click", () => put(new Picture(state.model.shape, state.model.levels), BLANK));
element("invert").addEventListener("click", () => {
  const other = board.picture.copy();
  other.values.forEach((value, at) => { other.values[at] = other.levels - 1 - value; });
  put(other, element("board-note").textContent, board.label);
});

async function open(file) {
  const { model } = state;
  say(`Reading ${file.name}…`);
  const found = await upload(`/api/picture?${new URLSearchParams({ model: state.model.name })}`, file);
  put(Picture.from(found.image, model.levels), [file.name, ...found.notes].join("; "), null, model);
  say("");
}
element("take-file").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", taking(async () => {
  const [file] = element("file").files;
  element("file").value = "";
  if (file) await open(file);
}));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) taking(() => open(file))();
});

export const imageWithClass = (more = {}) => withClass({ image: board.picture.nested(), ...more });
export function knownRows() {
  const { height, width } = board.picture;
  return Array.from({ length: height }, (_, i) => Array.from({ length: width }, (_, j) => board.known[i * width + j] === 1));
}
