/** Elements from plain values. Nothing here parses HTML: what the service says is text. */

/** `el("button", {type: "button", onclick}, "Go")`: an attribute that is false or null is left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** A control with its words around it. */
export function field(words, control, hint) {
  return el("label", { class: "field" }, el("span", {}, words), control, hint ? el("small", {}, hint) : null);
}

/** A group of check boxes; `values()` are those ticked. */
export function ticks(words, entries, ticked) {
  const boxes = entries.map((value) => el("input", { type: "checkbox", value, checked: ticked.includes(value) }));
  const labels = boxes.map((box) => el("label", { class: "tick" }, box, box.value));
  const group = el("fieldset", {}, el("legend", {}, words), labels.length ? labels : el("small", {}, "none"));
  return { group, values: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}

/** A list of choices; each is a value, or [value, words]. */
export function options(select, entries, chosen) {
  const pairs = entries.map((entry) => (Array.isArray(entry) ? entry : [entry, entry]));
  select.replaceChildren(...pairs.map(([value, words]) => el("option", { value }, words)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

const LARGE = 64; // pixels: wider pictures are shown as photographs, smaller ones pixel by pixel

export function picture(src, alt) {
  return el("img", { src, alt, class: "pixels", onload: ({ target }) => target.classList.toggle("large", target.naturalWidth > LARGE) });
}

export const png = (base64) => `data:image/png;base64,${base64}`;

export function facts(pairs) {
  return el("dl", {}, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** A line that a screen reader speaks when it changes. */
export function statusLine() {
  const line = el("p", { class: "status", role: "status" });
  line.say = (words, kind = "") => {
    line.textContent = words;
    line.dataset.kind = kind;
  };
  return line;
}

/** Runs one thing at a time: a new call gives up the one before. Errors are said in the line. */
export function latest(line, words) {
  let under = null;
  return async (work) => {
    under?.abort();
    const mine = (under = new AbortController());
    line.say(words, "busy");
    try {
      await work(mine.signal);
      if (under === mine) line.say("");
    } catch (error) {
      if (under === mine) line.say(error.message, "error");
    }
  };
}

/** Waits until nothing has called for a while. */
export function settled(work, milliseconds = 200) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

export const NORMS = { linf: "L∞", l2: "L2", l1: "L1", l0: "L0" };

/** Nearly all is not all, and nearly nothing is not nothing. */
export function percent(share) {
  if (share == null) return "–";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share < 1 && share >= 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}
export const number = (value) => (value == null ? "–" : String(Number(value.toPrecision(3))));
