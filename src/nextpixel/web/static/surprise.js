// Surprise: bits of each pixel, and whether the picture is one of the model's kind.

import { floatsIn, post } from "./api.js";
import { board, imageWithClass } from "./board.js";
import { heat, paint, style, twoSided } from "./pixels.js";
import { Latest, complain, digits, element, say, state } from "./state.js";

const latest = new Latest(), Z_SHOWN = 6, Z_ODD = 3, NARROW = 60, compared = new Set();

export async function surprise() {
  const signal = latest.begin();
  const { name } = state.model;
  say(`Asking the model…${compared.has(name) ? "" : " The first time it also draws pictures of its own, to compare with."}`);
  try {
    const found = await post("/api/surprise", imageWithClass(), signal);
    const { height, width } = board.picture, bits = floatsIn(found.bits), z = floatsIn(found.z);
    const top = Math.max(...bits);
    paint(element("surprise-bits"), height, width, (i, j) => heat(bits[i * width + j] / top));
    paint(element("surprise-z"), height, width, (i, j) => twoSided(z[i * width + j] / Z_SHOWN));
    element("surprise-bits-scale").textContent = `bright: ${digits(top, 1)} bits`;
    element("surprise-z-scale").textContent = `red: +${Z_SHOWN} and more, blue: less`;
    const figure = element("surprise-figure"), small = document.createElement("small");
    small.textContent = `  ${found.class === null ? "" : `given class ${found.class}: `}${digits(found.total_bits, 1)} bits; the model expected ${digits(found.expected_bits, 1)} (z = ${digits(found.total_z, 1)})`;
    figure.replaceChildren(`${digits(found.bits_per_dim, 4)} bits/dim`, small);
    element("surprise-verdict").textContent = verdict(found);
    compared.add(name);
    element("surprise-result").hidden = false;
    range(found);
    say("");
  } catch (error) { complain(error); }
}

function verdict({ bits_per_dim: figure, normal, total_z: z, threshold }) {
  if (threshold) {
    const what = `${threshold.score}, p = ${threshold.p.toPrecision(2)}; calibrated on ${threshold.n} pictures of ${threshold.data}, at most ${digits(100 * threshold.false_alarms, 1)} % false alarms`;
    return threshold.anomaly ? `An anomaly (${what}).` : `No anomaly (${what}).`;
  }
  const own = `${normal.pictures} pictures of the model’s own cost ${digits(normal.low, 3)} to ${digits(normal.high, 3)} bits/dim (95 %)`;
  if (figure > normal.high) return `More than is normal: ${own}. It is no picture of this kind, or an odd one.`;
  if (figure < normal.low) return `Less than is normal: ${own}. It is simpler than pictures of this kind.`;
  if (z > Z_ODD) return `Normal in all (${own}), but its pixels cost more than the model expected as it went along.`;
  if (z < -Z_ODD) return `Normal in all (${own}), but its pixels cost less than the model expected as it went along.`;
  return `Normal: ${own}.`;
}

// The model's own pictures as dots on a scale, their range as a band, this picture as a mark.
function range({ bits_per_dim: figure, normal }) {
  const canvas = element("surprise-range"), scale = devicePixelRatio || 1, width = Math.min(canvas.parentElement.clientWidth, 736), height = 64;
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const low = Math.min(normal.values[0], figure), high = Math.max(normal.values.at(-1), figure), pad = (high - low) * 0.08 || 0.01;
  const at = (value) => 8 + ((value - low + pad) / (high - low + 2 * pad)) * (width - 16);
  context.fillStyle = style("--field");
  context.fillRect(at(normal.low), 16, at(normal.high) - at(normal.low), 24);
  context.strokeStyle = style("--line");
  context.beginPath(); context.moveTo(8, 40); context.lineTo(width - 8, 40); context.stroke();
  context.fillStyle = style("--soft");
  for (const value of normal.values) { context.beginPath(); context.arc(at(value), 28, 2.5, 0, 7); context.fill(); }
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  const told = [normal.low, normal.high].map((end) => [digits(end, 3), at(end)]);
  const narrow = at(normal.high) - at(normal.low) < NARROW;
  for (const [text, x] of narrow ? [[told.map(([text]) => text).join(" to "), (told[0][1] + told[1][1]) / 2]] : told) {
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max(x, half), width - half), 56);
  }
  context.fillStyle = style("--accent");
  context.fillRect(at(figure) - 1.5, 8, 3, 36);
  canvas.setAttribute("aria-label", `${digits(figure, 3)} bits/dim; normal is ${digits(normal.low, 3)} to ${digits(normal.high, 3)}`);
}

export function forgetSurprise() {
  latest.stop();
  element("surprise-result").hidden = true;
  for (const part of ["figure", "verdict"]) element(`surprise-${part}`).replaceChildren();
}
