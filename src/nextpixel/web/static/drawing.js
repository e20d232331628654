// Generate and Complete: pictures that appear as the server draws them.

import { levelsIn, numbersIn, postForBlob, stream } from "./api.js";
import { board, imageWithClass, knownRows, put } from "./board.js";
import { Picture, download, sheet, show, style } from "./pixels.js";
import { Latest, ask, chosenClass, complain, digits, element, say, state, withClass } from "./state.js";

const LN2 = Math.log(2), FRAME_MS = 16;
const latest = { generate: new Latest(), complete: new Latest() };
const made = { generate: [], complete: [] }; // the finished pictures, for the downloads

function figures(kind, count) {
  const list = element(`${kind}-pictures`);
  list.replaceChildren();
  return Array.from({ length: count }, () => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), text = document.createElement("span"), use = document.createElement("button");
    use.type = "button";
    use.textContent = "use";
    use.title = "Take it as the picture of the other tabs";
    use.hidden = true;
    caption.append(text, use);
    figure.append(canvas, caption);
    list.append(figure);
    canvas.setAttribute("role", "img");
    return { canvas, text, use };
  });
}

async function run(kind, path, body, start) {
  const signal = latest[kind].begin(), model = state.model;
  const stop = element(`${kind}-stop`);
  stop.disabled = false;
  element(`${kind}-after`).hidden = true;
  made[kind] = [];
  let views = [], pictures = [], there = [], places = [], classes = null, took = 0, done = 0, frames = 0, drawing = Promise.resolve();
  const began = performance.now();
  const pace = Number(element(`${kind}-pace`).value) * 1000;
  const refresh = (index, next) => {
    show(views[index].canvas, pictures[index], there[index]);
    if (next !== undefined) mark(views[index].canvas, start, next);
  };
  const take = async (event) => {
    if (event.event === "job" && event.ahead) say(`Waiting for ${event.ahead} before us…`);
    if (event.event === "progress") say(`${event.what} ${event.done} of ${event.of}…`);
    if (event.event === "begin") {
      places = numbersIn(event.places);
      classes = event.classes;
      views = figures(kind, body.n ?? body.fills);
      pictures = views.map(() => start.copy());
      there = views.map(() => { const all = new Uint8Array(start.values.length).fill(1); places.forEach((at) => { all[at] = 0; }); return all; });
      views.forEach((view, index) => { refresh(index); view.canvas.setAttribute("aria-label", `Picture ${index + 1}`); });
      say("Drawing…");
    }
    if (event.event === "frame") {
      const values = levelsIn(event.values, model.levels), fresh = values.length / pictures.length;
      for (let k = 0; k < fresh;) {
        // Most models are faster than the eye: symbols are shown in their order, none before its time.
        const due = pace ? Math.floor(((performance.now() - began) / pace) * places.length) - done : fresh;
        for (; k < Math.min(due, fresh); k++) {
          pictures.forEach((picture, index) => { picture.values[places[done + k]] = values[index * fresh + k]; there[index][places[done + k]] = 1; });
        }
        pictures.forEach((_, index) => refresh(index, places[done + k]));
        if (k < fresh) await new Promise((next) => setTimeout(next, FRAME_MS));
        if (signal.aborted) return;
      }
      done += fresh;
      frames += 1;
      element(`${kind}-pictures`).dataset.frames = frames;
      event.nats?.forEach((nats, index) => { views[index].text.textContent = cost(nats); });
    }
    if (event.event === "pictures" && !signal.aborted) {
      event.nats.forEach((nats, index) => {
        const view = views[index];
        view.text.textContent = cost(nats);
        view.text.title = `probability 10 to the power of ${digits(-nats / Math.LN10, 1)}`;
        view.use.hidden = false;
        view.use.onclick = () => { put(pictures[index].copy(), "drawn on this page", classes?.[index] ?? null); element("tab-complete").click(); };
      });
      finish(event);
    }
  };
  const finish = (event) => {
    made[kind] = pictures;
    element(`${kind}-after`).hidden = false;
    const seconds = digits(took / 1000, 1);
    say(`${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}, ${places.length} symbols each, drawn in ${seconds} s.`);
    if (kind === "complete") how(event);
  };
  try {
    await stream(path, body, (event) => { took = performance.now() - began; drawing = drawing.then(() => take(event)); }, signal);
    await drawing;
    if (signal.aborted) throw new DOMException("stopped while it was shown", "AbortError");
  } catch (error) {
    if (error.name === "AbortError") { if (latest[kind].control === null) say("Stopped."); } else complain(error);
  }
  if (latest[kind].control?.signal === signal || latest[kind].control === null) stop.disabled = true;
}

// The pixel that comes next.
function mark(canvas, { height, width }, place) {
  const pixel = place % (height * width), context = canvas.getContext("2d");
  context.fillStyle = style("--accent");
  context.fillRect(pixel % width, Math.floor(pixel / width), 1, 1);
}

const cost = (nats) => `${digits(nats / LN2, 1)} bits`;

function how(event) {
  const line = element("complete-how"), badge = document.createElement("span");
  badge.className = "badge";
  badge.textContent = event.exact ? "exact" : "approximate";
  const least = Math.min(...event.nats), best = event.nats.indexOf(least) + 1;
  const worth = event.ess ? ` The particles were worth ${digits(Math.min(...event.ess), 1)} independent ones at least.` : "";
  line.replaceChildren(badge, (event.exact
    ? "Drawn from the model’s own distribution of what is missing, given what is known."
    : "Close to the model’s distribution of what is missing, given what is known.") + worth
    + (event.nats.length > 1 ? ` Of these, number ${best} is the likeliest: ${cost(least)}.` : ""));
  line.hidden = false;
}

const drawn = (kind) => ({ temperature: element(`${kind}-temperature`).valueAsNumber, seed: element(`${kind}-seed`).valueAsNumber });

element("generate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  run("generate", "/api/generate", withClass({ n: element("generate-n").valueAsNumber, ...drawn("generate") }), new Picture(state.model.shape, state.model.levels));
});
const classOfPicture = () => (state.model.classes === null ? null : chosenClass() ?? board.label);

element("complete-form").addEventListener("submit", (event) => {
  event.preventDefault();
  element("complete-how").hidden = true;
  run("complete", "/api/complete", imageWithClass({ class: classOfPicture(), known: knownRows(), fills: element("complete-fills").valueAsNumber, ...drawn("complete") }), board.picture.copy());
});
for (const kind of ["generate", "complete"]) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) element(`${kind}-pace`).value = "0";
  element(`${kind}-stop`).addEventListener("click", () => latest[kind].stop());
  element(`${kind}-png`).addEventListener("click", async () => download(await sheet(made[kind]), `nextpixel-${kind}.png`));
  element(`${kind}-gif`).addEventListener("click", async () => {
    try {
      const images = made[kind].map((picture) => picture.nested());
      download(await postForBlob("/api/gif", ask({ images, known: kind === "complete" ? knownRows() : null })), `nextpixel-${kind}.gif`);
    } catch (error) { complain(error); }
  });
}

export function forget() {
  for (const kind of ["generate", "complete"]) {
    latest[kind].stop();
    element(`${kind}-pictures`).replaceChildren();
    element(`${kind}-after`).hidden = true;
  }
  element("complete-how").hidden = true;
}
