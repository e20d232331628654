// The page: models, tabs, and what is asked when.

import { get } from "./api.js";
import { board, draw, fresh, takeTest, toolsFor } from "./board.js";
import { forgetCompressed } from "./compress.js";
import { forget } from "./drawing.js";
import { forgetInside, inside, leaveInside, redraw } from "./inside.js";
import { distributions, forgetDistributions, pointed } from "./next.js";
import { complain, element, option, say, state } from "./state.js";
import { forgetSurprise, surprise } from "./surprise.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const WITH_BOARD = ["complete", "surprise", "next", "compress"];
const ASKED = { surprise, next: distributions, inside };
const LEFT = { surprise: forgetSurprise, next: forgetDistributions, inside: leaveInside }; // nobody waits for it any more
const WAIT_MS = 150; // after the last change
let timer = null;

function soon() {
  clearTimeout(timer);
  forgetCompressed();
  timer = setTimeout(() => { if (WITH_BOARD.includes(board.tab)) ASKED[board.tab]?.(); }, WAIT_MS);
}

function open(tab) {
  const name = tab.getAttribute("aria-controls");
  if (name !== board.tab) LEFT[board.tab]?.();
  for (const other of tabs) {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    element(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
  const withBoard = WITH_BOARD.includes(name);
  element("board-area").hidden = !withBoard;
  const main = document.querySelector("main");
  main.classList.toggle("with-board", withBoard);
  main.dataset.tab = name;
  toolsFor(name);
  say("");
  history.replaceState(null, "", `#${name}`);
  ASKED[name]?.();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(tab), last = tabs.length - 1;
    const other = tabs[{ ArrowRight: (at + 1) % tabs.length, ArrowLeft: at ? at - 1 : last, Home: 0, End: last }[event.key]];
    if (!other) return;
    event.preventDefault();
    other.focus();
    open(other);
  });
}

const addressed = () => tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
addEventListener("hashchange", () => { if (state.model && addressed()) open(addressed()); });

function card(model) {
  const list = document.createElement("dl");
  const add = (name, value) => {
    if (value === null || value === undefined) return;
    if (typeof value === "object" && !Array.isArray(value)) { for (const [key, inner] of Object.entries(value)) add(`${name} ${key}`.trim(), inner); return; }
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name.replaceAll("_", " ");
    text.textContent = typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : String(value);
    list.append(term, text);
  };
  add("name", model.name);
  add("", model.card);
  add("", model.facts);
  element("card").replaceChildren(list);
}

function choose(model) {
  state.model = model;
  const classes = element("class");
  element("class-label").hidden = model.classes === null;
  classes.replaceChildren(option("", "any"), ...Array.from({ length: Math.min(model.classes ?? 0, 1000) }, (_, k) => option(k, k)));
  forget();
  forgetDistributions();
  forgetSurprise();
  forgetInside();
  forgetCompressed();
  card(model);
  fresh(model);
  if (model.test_pictures) takeTest();
  const current = tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
  if (current.id === "tab-inside") inside();
}

element("card-button").addEventListener("click", (event) => {
  const shown = element("card").hidden;
  element("card").hidden = !shown;
  event.target.setAttribute("aria-expanded", shown);
});
element("model").addEventListener("change", (event) => {
  const model = state.models[event.target.selectedIndex];
  history.replaceState(null, "", `?${new URLSearchParams({ model: model.name })}${location.hash}`); // the page of this model
  choose(model);
});
element("class").addEventListener("change", soon);
board.changed = soon;
board.pointed = () => { if (board.tab === "next") pointed(); };
addEventListener("resize", () => { if (board.tab === "next") pointed(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); redraw(); if (board.tab === "next") pointed(); });

try {
  const { models } = await get("/api/models");
  state.models = models;
  element("model").replaceChildren(...models.map((model, k) => option(k, model.name)));
  const named = models.findIndex((model) => model.name === new URLSearchParams(location.search).get("model"));
  element("model").selectedIndex = Math.max(named, 0);
  choose(models[Math.max(named, 0)]);
  if (addressed()) open(addressed());
  document.documentElement.dataset.ready = "yes";
} catch (error) { complain(error); }
