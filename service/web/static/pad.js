/** A square to draw on, light on black as in the data sets: with a pointer, or with the keyboard. */

import { el } from "./dom.js";

const SIZE = 280;
const PEN = 22;
const STEP = 10;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/** `changed(src)` gets the drawing as a data URL after every stroke, and null once it is empty again. */
export function pad(changed, say) {
  const canvas = el("canvas", {
    width: SIZE, height: SIZE, tabindex: "0", class: "pad", role: "application", "aria-label": "Drawing pad", "aria-describedby": "pad-help",
  });
  const context = canvas.getContext("2d");
  const pen = el("span", { class: "pen", hidden: true });
  let at = { x: SIZE / 2, y: SIZE / 2 };
  let down = false;

  function clear() {
    context.fillRect(0, 0, SIZE, SIZE);
    down = false;
    changed(null);
  }

  function line(to) {
    Object.assign(context, { lineWidth: PEN, lineCap: "round", strokeStyle: "#fff" });
    context.beginPath();
    context.moveTo(at.x, at.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    at = to;
  }

  const finished = () => changed(canvas.toDataURL("image/png"));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * SIZE) / box.width, y: ((event.clientY - box.top) * SIZE) / box.height };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pen.hidden = true;
    at = place(event);
    down = true;
    line(at);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) line(place(event));
  });
  canvas.addEventListener("lostpointercapture", () => {
    down = false;
    finished();
  });
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (event.key === " ") {
      down = !down;
      say(down ? "Pen down" : "Pen up");
      if (down) line(at);
      else finished();
    } else if (event.key === "Delete" || event.key === "Backspace") clear();
    else if (move) {
      const to = { x: Math.min(SIZE, Math.max(0, at.x + move[0])), y: Math.min(SIZE, Math.max(0, at.y + move[1])) };
      if (down) line(to);
      at = to;
    } else return;
    event.preventDefault();
    Object.assign(pen.style, { left: `${(100 * at.x) / SIZE}%`, top: `${(100 * at.y) / SIZE}%` });
    pen.hidden = false;
  });
  canvas.addEventListener("blur", () => {
    if (down) finished();
    down = false;
    pen.hidden = true;
  });
  context.fillRect(0, 0, SIZE, SIZE);
  return el(
    "div",
    {},
    el("div", { class: "pad-frame" }, canvas, pen),
    el("p", { class: "hint", id: "pad-help" }, "Draw with mouse, pen or finger. Keyboard: arrows move, Space puts the pen down and lifts it, Delete clears."),
    el("button", { type: "button", onclick: clear }, "Clear"),
  );
}
