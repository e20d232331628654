// What all tabs share: the models, the chosen one, and the line that says what is going on.

export const element = (id) => document.getElementById(id);

export const state = { models: [], model: null };

export function say(sentence, bad = false) {
  const status = element("status");
  status.textContent = sentence;
  status.classList.toggle("bad", bad);
}
export const complain = (error) => { if (error.name !== "AbortError") say(error.message, true); };

export function chosenClass() {
  const value = element("class").value;
  return state.model.classes === null || value === "" ? null : Number(value);
}
export const ask = (more) => ({ model: state.model.name, ...more });
export const withClass = (more) => ask({ class: chosenClass(), ...more });

// One request of a kind at a time: a new one ends the one before.
export class Latest {
  begin() { this.stop(); this.control = new AbortController(); return this.control.signal; }
  stop() { this.control?.abort(); this.control = null; }
}

export function option(value, text) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}
export const digits = (value, count) => value.toLocaleString("en", { minimumFractionDigits: count, maximumFractionDigits: count });
