// Next pixel: the distribution of the symbol that is pointed at.

import { floatsIn, post } from "./api.js";
import { board, draw, imageWithClass } from "./board.js";
import { style } from "./pixels.js";
import { Latest, complain, digits, element, say } from "./state.js";

const latest = new Latest();
let pmf = null;
const WIDEST = 72, LABEL = 28, EDGE = LABEL / 2; // of a bar with its gap; of a number; beside the bars, for half of one

export async function distributions() {
  const signal = latest.begin();
  pmf = null;
  say("Asking the model…");
  try {
    const found = await post("/api/distributions", imageWithClass(), signal);
    pmf = floatsIn(found.p);
    board.turns = found.turns;
    say(found.class === null ? "" : `Class ${found.class}${found.class_was_guessed ? ", the likeliest for this picture" : ""}.`);
    draw();
    pointed();
  } catch (error) { complain(error); }
}

export function pointed() {
  if (!pmf) return;
  const [row, column] = board.cursor, { channels, height, width, levels } = board.picture;
  const charts = element("next-charts"), names = channels === 3 ? ["Red", "Green", "Blue"] : ["Value"], told = [];
  while (charts.children.length > channels) charts.lastChild.remove();
  while (charts.children.length < channels) charts.append(Object.assign(document.createElement("canvas"), { className: "chart" }));
  const narrow = matchMedia("(max-width: 47rem)").matches, tall = channels === 1 ? (narrow ? 180 : 260) : narrow ? 120 : 170;
  for (let c = 0; c < channels; c++) {
    const start = ((c * height + row) * width + column) * levels, p = pmf.subarray(start, start + levels), truth = board.picture.at(c, row, column);
    const sentence = `${names[c]} ${truth}: p = ${shortly(p[truth])}, ${digits(Math.max(0, -Math.log2(p[truth])), 2)} bits`;
    bars(charts.children[c], p, truth, tall, sentence);
    told.push(sentence);
  }
  element("next-where").textContent = `Row ${row}, column ${column}`;
  charts.dataset.at = `${row},${column}`;
  if (document.activeElement === element("board")) say(`Row ${row}, column ${column}. ${told.join(". ")}.`);
}

const shortly = (p) => (p >= 0.001 ? digits(p, 3) : p.toExponential(1));

function bars(canvas, p, truth, height, sentence) {
  const scale = devicePixelRatio || 1, width = Math.min(canvas.parentElement.clientWidth, Math.max(300, p.length * WIDEST), 736);
  canvas.style.width = `${width}px`;
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const context = canvas.getContext("2d"), base = height - 26, top = 30, step = Math.min((width - 2 * EDGE) / p.length, WIDEST), most = Math.max(...p);
  context.scale(scale, scale);
  const gap = step > 6 ? Math.min(step * 0.25, 24) : 0, tall = (value) => (value / most) * (base - top);
  for (let k = 0; k < p.length; k++) {
    context.fillStyle = style(k === truth ? "--accent" : "--bar");
    context.fillRect(EDGE + k * step + gap / 2, base - tall(p[k]), Math.max(step - gap, 1), tall(p[k]));
  }
  const middle = EDGE + (truth + 0.5) * step;
  context.fillStyle = style("--line");
  context.fillRect(0, base, width, 1);
  context.fillStyle = style("--accent"); // a mark below, which is seen even where the bar is not
  context.beginPath(); context.moveTo(middle, base + 2); context.lineTo(middle - 5, base + 8); context.lineTo(middle + 5, base + 8); context.fill();
  context.font = "13px system-ui, sans-serif";
  context.fillText(sentence, 2, 16);
  context.fillStyle = style("--soft");
  context.textAlign = "center";
  const every = Math.ceil(p.length / Math.max(2, Math.floor(width / 40)));
  for (let k = 0; k < p.length; k += every) if (Math.abs(k - truth) * step > LABEL) context.fillText(k, EDGE + (k + 0.5) * step, height - 6);
  context.fillStyle = style("--ink");
  context.fillText(truth, middle, height - 1);
  context.fillStyle = style("--soft");
  context.textAlign = "right";
  context.fillText(`highest: ${shortly(most)}`, width - 2, 16);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", sentence);
}

export const forgetDistributions = () => { latest.stop(); pmf = null; element("next-charts").replaceChildren(); element("next-where").textContent = ""; };
