// Curves over time, with faults as lines across them.

import { clock, elapsed, figure, html, say, set, svg } from "./elements.js";

const HEIGHT = 170, LEFT = 46, RIGHT = 10, TOP = 16, BOTTOM = 22;

export class Chart {
  constructor(parent, column) {
    this.column = column;
    this.title = html("span");
    this.output = html("output");
    this.grid = svg("g"); this.faults = svg("g");
    this.curve = svg("path", { class: "curve", d: "" });
    this.cursor = svg("line", { class: "cursor", visibility: "hidden", y1: TOP, y2: HEIGHT - BOTTOM });
    this.dot = svg("circle", { class: "dot", r: 4, visibility: "hidden" });
    // A slider is what arrow keys move: a reader of the screen says where it stands.
    this.canvas = svg("svg", { role: "slider", tabindex: 0, "aria-valuemin": 0, height: HEIGHT },
      this.grid, this.faults, this.curve, this.cursor, this.dot);
    this.figure = html("figure", { class: "chart", "data-chart": column },
      html("figcaption", {}, this.title, this.output), this.canvas);
    parent.append(this.figure);
    this.points = []; this.at = null;
    this.canvas.addEventListener("pointermove", (event) => {
      const x = event.clientX - this.canvas.getBoundingClientRect().left;
      this.read(this.nearest(x));
    });
    this.canvas.addEventListener("pointerleave", () => this.read(null));
    this.canvas.addEventListener("blur", () => this.read(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  draw(history, name, place) {
    say(this.title, name);
    const samples = history.samples.filter((s) => s[place] !== null);
    this.figure.hidden = samples.length === 0;
    if (!samples.length) return;
    const width = Math.max(240, this.canvas.clientWidth || this.figure.clientWidth);
    const begun = history.samples[0][0], ended = history.samples[history.samples.length - 1][0];
    const span = Math.max(1, ended - begun);
    const values = samples.map((s) => s[place]);
    const [low, high] = bounds(values);
    const x = (time) => LEFT + (time - begun) / span * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    this.points = samples.map((s) => ({ x: x(s[0]), y: y(s[place]), sample: s, value: s[place] }));
    this.begun = begun;
    set(this.canvas, { viewBox: `0 0 ${width} ${HEIGHT}` });
    set(this.curve, { d: this.points.map((p, i) => `${i ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("") });
    this.drawGrid(width, low, high, y, span);
    this.drawFaults(history.faults.filter((f) => f.time >= begun - 1 && f.time <= ended + 1), x);
    const last = values[values.length - 1];
    set(this.canvas, { "aria-label": `${name} over ${elapsed(span)}: from ${figure(values[0])} to ${figure(last)}, `
      + `least ${figure(Math.min(...values))}, most ${figure(Math.max(...values))}; ${history.faults.length} faults` });
    this.read(this.at === null ? null : Math.min(this.at, this.points.length - 1));
  }

  drawGrid(width, low, high, y, span) {
    const key = [width, low, high, elapsed(span)].join();
    if (this.gridKey === key) return;
    this.gridKey = key;
    const lines = [low, (low + high) / 2, high].flatMap((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "soft", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, figure(value, 3)),
    ]);
    const below = HEIGHT - 6;
    this.grid.replaceChildren(...lines,
      svg("text", { class: "soft", x: LEFT, y: below }, "0 s"),
      svg("text", { class: "soft", x: width - RIGHT, y: below, "text-anchor": "end" }, elapsed(span)));
  }

  drawFaults(faults, x) {
    while (this.faults.children.length > faults.length) this.faults.lastElementChild.remove();
    faults.forEach((fault, place) => {
      let mark = this.faults.children[place];
      if (!mark) {
        mark = svg("g", {}, svg("line", { class: "fault", y1: TOP, y2: HEIGHT - BOTTOM }),
          svg("text", { class: "fault-mark", y: TOP - 4 }, "✕"), svg("title"));
        this.faults.append(mark);
      }
      const at = x(fault.time).toFixed(1);
      set(mark.children[0], { x1: at, x2: at });
      set(mark.children[1], { x: at });
      say(mark.children[2], `${fault.pod}: ${fault.reason}`);
    });
  }

  nearest(x) {
    let best = null;
    this.points.forEach((p, i) => {
      if (best === null || Math.abs(p.x - x) < Math.abs(this.points[best].x - x)) best = i;
    });
    return best;
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (!this.points.length || (step === undefined && event.key !== "Home" && event.key !== "End")) return;
    event.preventDefault();
    const last = this.points.length - 1;
    const to = event.key === "Home" ? 0 : event.key === "End" ? last : (this.at ?? last) + step;
    this.read(Math.max(0, Math.min(last, to)));
  }

  read(at) {
    this.at = at;
    const point = at === null ? null : this.points[at];
    const visibility = point ? "visible" : "hidden";
    set(this.cursor, { visibility }); set(this.dot, { visibility });
    const shown = point ?? this.points[this.points.length - 1];
    if (point) {
      set(this.cursor, { x1: point.x, x2: point.x });
      set(this.dot, { cx: point.x, cy: point.y });
    }
    if (shown) {
      const where = point ? `round ${shown.sample[1]}, ${clock(shown.sample[0])}: ` : "";
      const said = where + figure(shown.value);
      say(this.output, said);
      set(this.canvas, { "aria-valuemax": this.points.length - 1, "aria-valuenow": at ?? this.points.length - 1,
        "aria-valuetext": said });
    }
  }
}

function bounds(values) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low >= 0 && low < high / 3) low = 0;
  if (low === high) { low -= Math.abs(low) / 2 || 1; high += Math.abs(high) / 2 || 1; }
  return [low, high];
}
