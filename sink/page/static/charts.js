// Plots with uPlot, in the page's colours.
import { el } from "./dom.js";

const COLOURS = ["#2a7f9e", "#d1803a", "#4c9a62", "#a7629f", "#c0504d", "#7a74c9", "#8a7b3f", "#4aa8a0",
  "#b0658a", "#6b8e23", "#c99a2e", "#5b7fc7", "#9b5b3a", "#3f8f7f", "#8f8f8f", "#b04a7a"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Steps and minutes are whole.
const WHOLE = [1, 2, 5].flatMap((first) => [0, 1, 2, 3, 4, 5, 6, 7, 8].map((zeros) => first * 10 ** zeros)).sort((a, b) => a - b);

const living = new Set();

function axes(unitX, log) {
  const stroke = colour("--dim"), grid = { stroke: colour("--line"), width: 1 };
  const font = "11px system-ui, sans-serif";
  return [
    { stroke, grid, ticks: { show: false }, font, size: 22, gap: 3, values: unitX, incrs: WHOLE },
    { stroke, grid: { ...grid, show: !log }, ticks: { show: false }, font, size: 44, gap: 4, values: (_, values) => values.map(short) },
  ];
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size && size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

/** A plot that follows the width of its parent. options: {lines: [{label, dash}], height, x, log, onseek, zero} */
export class Chart {
  constructor(parent, data, options) {
    Object.assign(this, { parent, data, options });
    this.make();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(parent);
    living.add(this);
  }

  make() {
    const { lines, height = 150, x, log, zero, onseek, legend = true } = this.options;
    const series = lines.map(({ label, dash, fill, points }, place) => ({
      label, dash, stroke: COLOURS[place % COLOURS.length], width: 1.4, spanGaps: false,
      fill: fill ? `${COLOURS[place % COLOURS.length]}2e` : undefined, points: { show: points || false, size: 4 },
      value: (_, value) => short(value),
    }));
    const nothing = () => null;
    this.plot = new uPlot({
      width: Math.max(this.parent.clientWidth, 100), height,
      padding: [8, 18, 0, 0],
      scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: zero ? (_, __, most) => [0, Math.max(most * 1.08, 1)] : undefined } },
      axes: axes(x, log),
      series: [{}, ...series],
      legend: { show: legend, live: Boolean(onseek) },
      cursor: {
        y: false, x: Boolean(onseek), points: { show: false }, drag: { x: false, y: false },
        bind: { mousemove: nothing, mouseleave: nothing, mouseenter: nothing, mousedown: nothing, mouseup: nothing, dblclick: nothing },
      },
      hooks: {
        ready: [(plot) => {
          if (!onseek) return;
          let held = false;
          const seek = (event) => {
            const box = plot.over.getBoundingClientRect();
            onseek(plot.posToVal(Math.min(Math.max(event.clientX - box.left, 0), box.width), "x"));
          };
          plot.over.addEventListener("pointerdown", (event) => { held = true; plot.over.setPointerCapture(event.pointerId); seek(event); });
          plot.over.addEventListener("pointermove", (event) => held && seek(event));
          for (const name of ["pointerup", "pointercancel"]) plot.over.addEventListener(name, () => { held = false; });
        }],
      },
    }, this.data, this.parent);
    if (this.step !== undefined) this.mark(this.step);
  }

  /** Show the values at a place of x. */
  mark(step) {
    this.step = step;
    this.plot.setCursor({ left: this.plot.valToPos(step, "x"), top: 0 }, false);
  }

  set(data) {
    this.data = data;
    this.plot.setData(data);
  }

  resize() {
    const width = this.parent.clientWidth;
    if (width && Math.abs(width - this.plot.width) > 1) {
      this.plot.setSize({ width, height: this.options.height || 150 });
      if (this.step !== undefined) this.mark(this.step);
    }
  }

  remake() {
    this.plot.destroy();
    this.make();
  }

  close() {
    this.observer.disconnect();
    this.plot.destroy();
    living.delete(this);
  }
}

export const holder = (title, note) =>
  el("div", { class: "plot" }, title ? el("div", { class: "title" }, el("b", {}, title), note || "") : null);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => living.forEach((chart) => chart.remake()));
