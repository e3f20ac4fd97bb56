// One episode: all cameras in step, plots beside them, the plan of a search, everything that was stored with it.
import { Picture, episodeHash, frameUrl, get, planUrl } from "./api.js";
import { Chart, holder } from "./charts.js";
import { bytes, chip, clock, count, duration, el, facts, fill } from "./dom.js";

const PLOTS_AT_FIRST = 4;
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const MOST_FPS = 25;

export class Episode {
  constructor(view, stream, index, marks) {
    Object.assign(this, { view, stream, index, marks, step: 0, charts: new Map(), chosen: new Set() });
    this.keys = (event) => this.key(event);
    document.addEventListener("keydown", this.keys);
    this.load();
  }

  close() {
    this.closed = true;
    this.pause();
    document.removeEventListener("keydown", this.keys);
    this.charts.forEach((chart) => chart.close());
  }

  async load() {
    try {
      this.found = await get("/api/episode", { stream: this.stream, index: this.index });
    } catch (error) {
      if (!this.closed) fill(this.view, el("p", { class: "empty" }, error.message, ". ", el("a", { href: "#/episodes" }, "All episodes")));
      return;
    }
    if (!this.closed) this.show();
  }

  show() {
    const { found } = this;
    const cameras = found.cameras.length && found.steps ? this.makeCameras() : null, plan = found.plan ? this.makePlan() : null;
    // What moves with the steps comes first, and the slider right below it.
    const moving = [plan, cameras].filter(Boolean), scrub = this.makeScrub();
    if (scrub) moving.length ? moving[0].append(scrub) : moving.push(scrub);
    const left = el("div", { class: "stack sticky" }, moving, this.marks.card(found, () => this.load()), this.makeFacts());
    const right = found.steps && found.columns.length ? el("div", { class: "stack" }, this.makePlots()) : null;
    fill(this.view, this.makeHead(), el("div", { class: right ? "viewer" : "" }, left, right));
    this.charts.forEach((chart) => chart.close());
    this.charts.clear();
    for (const name of this.chosen) this.addPlot(name);
    this.seek(Math.min(this.step, this.last));
  }

  get last() {
    return Math.max(this.found.steps - 1, 0);
  }

  // --- parts ----------------------------------------------------------------------------------------------------------

  makeHead() {
    const { stream, index, outcome, steps, before, after } = this.found;
    const beside = (other, name) => (other === null ? null : el("a", { class: "quiet", href: episodeHash(stream, other) }, name));
    return el("div", { class: "head" }, el("h1", {}, `${stream} #${index}`), chip(outcome), el("span", { class: "dim" }, steps ? `${count(steps)} step${steps === 1 ? "" : "s"}, ${duration(steps / this.found.rate_hz)} at ${this.found.rate_hz} Hz` : "no steps were kept"),
      el("span", { class: "right" }, beside(before, "← earlier"), beside(after, "later →"), el("a", { class: "quiet", href: `#/episodes?${new URLSearchParams({ stream })}` }, "All episodes")));
  }

  makeCameras() {
    const { cameras, stream } = this.found;
    this.cameras = cameras.map((camera) => {
      const image = el("img", { alt: `camera ${camera.name} of ${stream}`, decoding: "async" });
      image.style.aspectRatio = `${camera.width} / ${camera.height}`;
      return { name: camera.name, picture: new Picture(image), element: el("div", { class: "camera" }, image, el("span", {}, camera.name)) };
    });
    const few = cameras.length <= 4;
    const grid = el("div", { class: `cameras ${few ? "few" : ""}`, style: { "--count": String(Math.min(cameras.length, 2)) } }, this.cameras.map((camera) => camera.element));
    if (cameras.length === 1) grid.style.maxWidth = this.found.plan ? "240px" : `${Math.max(cameras[0].width, 360)}px`;
    return el("div", { class: "card" }, grid);
  }

  makePlan() {
    const { plan } = this.found;
    if (plan.trouble) return el("div", { class: "card" }, el("h2", {}, "Plan"), el("p", { class: "dim" }, "There is no scene to draw: ", plan.trouble));
    const panel = () => {
      const image = el("img", { alt: "scene from above", decoding: "async" });
      const text = el("figcaption");
      return { picture: new Picture(image), image, text, element: el("figure", {}, image, text) };
    };
    this.panels = this.found.steps ? [panel(), panel()] : [panel()];
    return el("div", { class: "card" }, el("h2", {}, "Plan", el("span", { class: "right" }, plan.title)), el("div", { class: "panels" }, this.panels.map((each) => each.element)),
      el("p", { class: "dim" }, el("small", {}, "Blue: where the robot can go. Orange: the box that is pushed, and where it should go.")));
  }

  makeScrub() {
    if (this.found.steps < 2) return null;
    this.range = el("input", { type: "range", min: "0", max: String(this.last), value: "0", "aria-label": "Step", oninput: () => { this.pause(); this.seek(Number(this.range.value)); } });
    this.output = el("output", { id: "step" });
    this.button = el("button", { type: "button", class: "play", "aria-label": "Play", onclick: () => this.toggle() }, "▶");
    this.speed = el("select", { "aria-label": "Speed" }, SPEEDS.map((speed) => el("option", { value: String(speed) }, `${speed}×`)));
    this.speed.value = "1";
    return el("div", { class: "scrub" }, this.button, this.range, this.output, this.speed);
  }

  makePlots() {
    const numeric = this.found.columns;
    const first = numeric.filter(({ name }) => name === "action" || name.startsWith("observations/")).sort((a, b) => (b.name === "action") - (a.name === "action"));
    if (!this.chosen.size) (first.length ? first : numeric).slice(0, PLOTS_AT_FIRST).forEach(({ name }) => this.chosen.add(name));
    const choose = (name) => {
      const box = el("input", { type: "checkbox", checked: this.chosen.has(name), onchange: () => (box.checked ? this.addPlot(name) : this.removePlot(name)) });
      return el("label", {}, box, name);
    };
    this.plots = el("div", { class: "plots" });
    return el("div", { class: "card" }, el("h2", {}, "Action and observations"), el("div", { class: "chooser" }, [...new Set([...first, ...numeric])].map(({ name }) => choose(name))), this.plots);
  }

  makeFacts() {
    const { found } = this;
    const text = JSON.stringify(found.attributes, null, 2);
    return el("div", { class: "card" }, el("h2", {}, "Episode"), facts([
      ["Committed", clock(found.committed_ns / 1e9)], ["Took", duration(found.took_s)], ["Seed", String(found.seed)], ["Producer", found.producer],
      ["Policy or model", found.model], ["Frames", bytes(found.frames_bytes)], ["Stored in", `${found.shard}, row ${found.row}`]]),
    el("details", {}, el("summary", {}, "Attributes"), el("pre", {}, text)));
  }

  // --- plots ----------------------------------------------------------------------------------------------------------

  async addPlot(name) {
    this.chosen.add(name);
    let data;
    try {
      data = await get("/api/column", { stream: this.stream, index: this.index, name });
    } catch (error) {
      data = { error: error.message };
    }
    if (this.closed || !this.chosen.has(name) || this.charts.has(name)) return;
    const { columns } = this.found;
    const shape = columns.find((column) => column.name === name);
    const title = holder(name, `${shape.dtype}${shape.shape.length ? ` [${shape.shape.join(", ")}]` : ""}${data.left_out ? `, ${data.left_out} more not drawn` : ""}`);
    title.dataset.place = String(columns.indexOf(shape) - (name === "action" ? 1000 : 0));
    const after = [...this.plots.children].find((other) => Number(other.dataset.place) > Number(title.dataset.place));
    this.plots.insertBefore(title, after || null);
    if (data.error) {
      title.append(el("p", { class: "trouble" }, data.error));
      this.charts.set(name, { element: title, close() {}, mark() {} });
      return;
    }
    const chart = new Chart(title, [data.steps, ...data.lines], { lines: data.labels.map((label) => ({ label: label || "value", points: data.steps.length < 12 })), height: 132, onseek: (step) => { this.pause(); this.seek(Math.round(step)); } });
    chart.element = title;
    this.charts.set(name, chart);
    chart.mark(this.step);
  }

  removePlot(name) {
    this.chosen.delete(name);
    const chart = this.charts.get(name);
    if (!chart) return;
    chart.close();
    chart.element.remove();
    this.charts.delete(name);
  }

  // --- time -----------------------------------------------------------------------------------------------------------

  seek(step) {
    this.step = Math.min(Math.max(step, 0), this.last);
    const { uuid, stream, index, steps, rate_hz, plan } = this.found;
    if (steps) (this.cameras || []).forEach((camera) => camera.picture.show(frameUrl(uuid, stream, index, camera.name, this.step)));
    if (plan && this.panels) {
      const [push, how, contacts] = plan.captions[this.step], ended = plan.captions.at(-1);
      const over = this.step === this.last || !steps ? ended.filter(Boolean).join(", ") : "";
      const texts = steps ? [[`Before ${push}`, how], ["After it", [over, contacts].filter(Boolean).join(" · ")]] : [[ended[0], ended.slice(1).filter(Boolean).join(" · ")]];
      this.panels.forEach((panel, place) => {
        panel.picture.show(planUrl(uuid, stream, index, place ? "after" : "before", this.step));
        fill(panel.text, el("b", {}, texts[place][0]), texts[place][1]);
      });
    }
    this.charts.forEach((chart) => chart.mark(this.step));
    if (this.range) {
      this.range.value = String(this.step);
      fill(this.output, "step ", el("b", {}, String(this.step)), ` / ${this.last}, ${(this.step / rate_hz).toFixed(2)} s`);
    }
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.step >= this.last) this.seek(0);
    this.button.textContent = "❚❚";
    this.button.setAttribute("aria-label", "Pause");
    const began = performance.now(), from = this.step, speed = Number(this.speed.value);
    this.playing = setInterval(() => {
      const step = from + Math.floor(((performance.now() - began) / 1000) * this.found.rate_hz * speed);
      if (step !== this.step) this.seek(step);
      if (step >= this.last) this.pause();
    }, 1000 / MOST_FPS);
    return undefined;
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
    if (this.button) {
      this.button.textContent = "▶";
      this.button.setAttribute("aria-label", "Play");
    }
  }

  key(event) {
    if (!this.range || event.target.closest("input:not([type=range]), select, textarea, button, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") this.toggle();
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      this.pause();
      this.seek(this.step + (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1));
    } else return;
    event.preventDefault();
  }
}
