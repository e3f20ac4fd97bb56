// The first screen: what the collection is doing now.
import { Picture, episodeHash, frameUrl } from "./api.js";
import { Chart, holder } from "./charts.js";
import { bytes, chip, clock, count, decimal, duration, el, facts, fill, known, percent, svg, table } from "./dom.js";

const FRAME_EVERY_MS = 2000;
const STEPS_OF_EPISODE = 12;
const MOST_STREAMS = 12;

const sum = (list, value) => list.reduce((total, each) => total + (value(each) || 0), 0);

/** One screen; show() is given each new picture of what goes on. */
export class Live {
  constructor(view) {
    this.parts = Object.fromEntries(
      ["progress", "tiles", "newest", "streams", "history", "producers", "inference", "trainers"].map((name) => [name, el("section", { hidden: true, id: name })]),
    );
    for (const name of ["newest", "streams", "history", "producers"]) this.parts[name].className = "card";
    const { progress, tiles, newest, streams, history, producers, inference, trainers } = this.parts;
    fill(view, progress, tiles, newest, streams, producers, el("div", { class: "columns" }, history, inference, trainers));
    this.cards = new Map();
    this.charts = new Map();
    this.timer = setInterval(() => this.advance(), FRAME_EVERY_MS);
  }

  close() {
    clearInterval(this.timer);
    this.charts.forEach((chart) => chart.close());
  }

  show(now) {
    this.now = now;
    this.showProgress(now);
    this.showTiles(now);
    this.showNewest(now);
    this.showStreams(now);
    this.showHistory(now);
    this.showProducers(now);
    this.showInference(now);
    this.showTrainers(now);
  }

  // --- numbers --------------------------------------------------------------------------------------------------------

  showProgress({ streams, time_ns }) {
    const part = this.parts.progress;
    part.hidden = false;
    part.className = "card progress-card";
    const aims = streams.filter((stream) => stream.goal);
    const done = (stream) => (stream.goal && stream.goal.of === "episodes" ? stream.episodes : stream.outcomes.success || 0);
    const episodes = sum(streams, (stream) => stream.episodes);
    if (!aims.length) {
      fill(part,
        el("div", { class: "big" }, el("span", { id: "episodes" }, count(episodes)), el("small", {}, episodes === 1 ? " episode" : " episodes")),
        el("div", { class: "until" }, streams.length ? `${count(sum(streams, (each) => each.outcomes.success))} successful, in ${streams.length} stream${streams.length > 1 ? "s" : ""}` : "nothing was committed yet"));
      return;
    }
    const goal = sum(aims, (stream) => stream.goal.count), made = sum(aims, (stream) => Math.min(done(stream), stream.goal.count));
    const left = aims.map((stream) => stream.left_s);
    const longest = left.every(known) ? Math.max(...left) : null;
    const kinds = new Set(aims.map((stream) => stream.goal.of));
    const what = kinds.size === 1 && kinds.has("successes") ? "successful episodes" : "episodes";
    let until = ["no estimate yet"];
    if (made >= goal) until = ["the goal is met"];
    else if (longest !== null) until = ["about ", el("b", {}, duration(longest)), " left, done ", el("b", {}, clock(time_ns / 1e9 + longest))];
    fill(part,
      el("div", { class: "big" }, el("span", { id: "episodes" }, count(made)), el("small", {}, ` of ${count(goal)} ${what}`)),
      el("div", { class: "until" }, until),
      el("progress", { max: goal, value: made, "aria-label": `${made} of ${goal} ${what}` }));
  }

  showTiles({ streams, producers, sink, disk_free_bytes }) {
    const part = this.parts.tiles;
    part.hidden = false;
    const working = sink && !sink.trouble ? sink.producers_in_all : producers.length;
    const lately = streams.filter((stream) => stream.success && stream.success.last);
    const of = sum(lately, (stream) => stream.success.last_of);
    const share = of ? sum(lately, (stream) => stream.success.last.rate * stream.success.last_of) / of : null;
    const tile = (id, name, value, unit) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", { id }, value, unit ? el("small", {}, ` ${unit}`) : null));
    const [free, unit] = bytes(disk_free_bytes).split(" ");
    fill(part, el("dl", { class: "tiles" },
      tile("episodes-per-hour", "Episodes per hour", decimal(sum(streams, (each) => each.episodes_per_hour), 0)),
      tile("frames-per-s", "Frames per second", decimal(sum(streams, (each) => each.frames_per_s))),
      tile("mb-per-s", "Written", decimal(sum(streams, (each) => each.mb_per_s)), "MB/s"),
      tile("success", "Success, last 100", percent(share)),
      tile("working", "Producers", count(working)),
      tile("disk", "Disk left", free, unit)));
  }

  showStreams({ streams }) {
    const part = this.parts.streams;
    part.hidden = !streams.length;
    const share = (found) => found
      ? el("span", { class: "share", title: `95 % interval ${percent(found.low)} to ${percent(found.high)}` }, meter(found.rate), percent(found.rate))
      : "–";
    const discards = streams.some((stream) => stream.discarded);
    const heads = [["Stream", "name"], ["Progress", ""], ["Success, last 100", ""], ["All", "number"], ["Failed", "number"], ...(discards ? [["Discarded", "number"]] : []), ["Episodes/h", "number"], ["Frames/s", "number"], ["MB/s", "number"], ["Left", "number"], ["Last hour", ""]];
    const rows = streams.map((stream) => {
      const { goal, outcomes, success } = stream;
      const done = goal && goal.of === "episodes" ? stream.episodes : outcomes.success || 0;
      const progress = goal ? el("span", { class: "share" }, el("progress", { max: goal.count, value: Math.min(done, goal.count), "aria-label": "progress" }), `${count(done)} of ${count(goal.count)}`) : count(stream.episodes);
      return [
        el("a", { href: `#/episodes?${new URLSearchParams({ stream: stream.name })}` }, stream.name), progress,
        success ? share(success.last) : "–", success && success.all ? percent(success.all.rate) : "–",
        count((outcomes.void || 0) + (outcomes.failure || 0)), ...(discards ? [count(stream.discarded)] : []),
        decimal(stream.episodes_per_hour, 0), decimal(stream.frames_per_s), decimal(stream.mb_per_s), duration(stream.left_s), spark(stream.history)];
    });
    fill(part, el("h2", {}, "Streams"), table(heads, rows));
  }

  showProducers({ producers, sink, time_ns }) {
    const part = this.parts.producers;
    part.hidden = !producers.length;
    if (part.hidden) return;
    const all = sink && !sink.trouble ? sink.producers_in_all : producers.length;
    const from = sink && !sink.trouble;
    const last = (row) => known(row.last_ns)
      ? el("span", { class: "share" }, el("a", { href: episodeHash(row.stream, row.last_index) }, `#${row.last_index}`), el("span", { class: "dim" }, `${duration((time_ns - row.last_ns) / 1e9)} ago`))
      : "–";
    const credit = (row) => known(row.credit_bytes) && row.window_bytes ? el("span", { class: "share", title: `${bytes(row.credit_bytes)} of ${bytes(row.window_bytes)}` }, meter(row.credit_bytes / row.window_bytes), percent(row.credit_bytes / row.window_bytes)) : "–";
    const columns = [
      [["Producer", "name"], (row) => row.name],
      ...(from ? [[["Host", ""], (row) => row.host], [["State", ""], (row) => row.state || (row.done ? "done" : "starting")], [["Now", ""], (row) => (row.episodes_under_way || []).slice(0, 4).map((index) => `#${index}`).join(" ") || "–"]] : [[["Stream", ""], (row) => row.stream]]),
      [["Per hour", "number"], (row) => decimal(row.episodes_per_hour, 0)],
      ...(from ? [[["Credit", ""], credit]] : []),
      [["Last", ""], last],
      ...(from ? [[["Restarts", "number"], (row) => count(row.restarts)], [["Silent", "number"], (row) => duration(row.silent_s)]] : []),
    ];
    const shown = producers.slice(0, 100);
    fill(part, el("h2", {}, "Producers", all > shown.length ? el("span", { class: "right" }, `${shown.length} of ${count(all)}`) : null),
      table(columns.map(([head]) => head), shown.map((row) => columns.map(([, value]) => value(row)))));
  }

  showHistory({ streams }) {
    const part = this.parts.history;
    const busy = streams.filter((stream) => stream.history && stream.history.some(Boolean)).slice(0, 8);
    part.hidden = !busy.length;
    if (part.hidden) return;
    const minutes = busy[0].history.map((_, place) => place - busy[0].history.length + 1);
    const data = [minutes, ...busy.map((stream) => stream.history)];
    this.chart("history", part, busy.map((stream) => stream.name).join("\n"), () => {
      const plot = holder();
      fill(part, el("h2", {}, "Episodes per minute, last hour"), plot);
      return new Chart(plot, data, { lines: busy.map((stream) => ({ label: stream.name, fill: true })), height: 190, zero: true, x: (_, values) => values.map((value) => (value ? `${-value} min ago` : "now")), legend: busy.length > 1 });
    }, data);
  }

  /** Make a chart once, and anew only if its lines are others. */
  chart(name, part, key, make, data) {
    const known = this.charts.get(name);
    if (known && known.key === key) return known.set(data);
    if (known) known.close();
    const made = make();
    made.key = key;
    this.charts.set(name, made);
  }

  // --- models ---------------------------------------------------------------------------------------------------------

  showInference({ inference }) {
    const part = this.parts.inference;
    part.hidden = !inference.length;
    const time = (value) => (known(value) ? `${decimal(value)} ms` : "–");
    fill(part, inference.map((server) => el("div", { class: "card" },
      el("h2", {}, "Inference", el("span", { class: "right mono" }, server.address)),
      server.trouble ? el("p", { class: "trouble" }, server.trouble) : facts([
        ["Queries/s", decimal(server.queries_per_s)], ["Waiting", count(server.waiting)], ["Batch size", decimal(server.batch_items)],
        ["Queue, half", time(server.queue_ms_p50)], ["Queue, 99 %", time(server.queue_ms_p99)],
        ["Model, half", time(server.model_ms_p50)], ["Model, 99 %", time(server.model_ms_p99)],
        ...Object.entries(server.models).map(([model, version]) => [`Version of ${model}`, version]),
        ...Object.entries(server.outcomes).filter(([name]) => name !== "answered").map(([name, value]) => [`Queries ${name}`, count(value)]),
      ]))));
  }

  showTrainers({ trainers, time_ns }) {
    const part = this.parts.trainers;
    part.hidden = !trainers.length;
    const ago = (time) => (known(time) && time ? `${duration(time_ns / 1e9 - time)} ago` : "–");
    if (part.childElementCount !== trainers.length) {
      fill(part, trainers.map(() => el("div", { class: "card" }, el("h2"), el("div"), holder())));
    }
    trainers.forEach((run, place) => {
      const [head, body, plot] = part.children[place].children;
      fill(head, "Training", el("span", { class: "right" }, run.name));
      if (run.trouble) return fill(body, el("p", { class: "trouble" }, run.trouble));
      const [training, validation] = [run.training, run.validation];
      const last = (points) => (points[1].length ? decimal(points[1].at(-1), 4) : "–");
      fill(body, facts([["Step", count(run.step)], ["Loss", last(training)], ["Validation", last(validation)], ["Last told", ago(run.time)], ["Snapshot", ago(run.snapshot_time)],
        ...(run.published.length ? [["Published", run.published.at(-1).version]] : [])]));
      const data = uPlot.join([training, validation].map((points) => [...unique(points)]));
      if (!data[0].length) return undefined;
      return this.chart(`trainer${place}`, part, run.name, () => new Chart(plot, data, { lines: [{ label: "training" }, { label: "validation", points: true }], height: 170, log: true }), data);
    });
  }

  // --- frames ---------------------------------------------------------------------------------------------------------

  showNewest({ streams }) {
    const part = this.parts.newest;
    const seen = streams.filter((stream) => stream.newest && stream.cameras.length).slice(0, MOST_STREAMS);
    part.hidden = !seen.length;
    const names = seen.map((stream) => stream.name);
    if (names.join("\n") !== [...this.cards.keys()].join("\n")) {
      this.cards = new Map(seen.map((stream) => [stream.name, new NewestCard(stream, seen.length === 1 ? 420 : 260)]));
      fill(part, el("h2", {}, "Newest frames"), el("div", { class: "newest" }, [...this.cards.values()].map((card) => card.element)));
    }
    seen.forEach((stream) => this.cards.get(stream.name).update(stream, this.now.time_ns));
  }

  advance() {
    if (!document.hidden) this.cards.forEach((card) => card.advance());
  }
}

/** The newest episode of a stream, all cameras in step, played slowly in a few pictures. */
class NewestCard {
  constructor(stream, height) {
    this.outcome = el("span");
    this.link = el("a", { href: "#/" });
    this.text = el("span");
    this.cameras = stream.cameras.map((camera) => {
      const image = el("img", { alt: `${stream.name}, camera ${camera.name}`, decoding: "async" });
      image.style.aspectRatio = `${camera.width} / ${camera.height}`;
      return { name: camera.name, picture: new Picture(image), element: el("div", { class: "camera" }, image, el("span", {}, camera.name)) };
    });
    const grid = el("div", { class: `cameras ${stream.cameras.length <= 4 ? "few" : ""}`, style: { "--count": String(stream.cameras.length) } }, this.cameras.map((camera) => camera.element));
    const ratio = stream.cameras.reduce((total, camera) => total + camera.width / camera.height, 0);
    this.element = el("figure", {}, grid, el("figcaption", {}, this.link, this.outcome, this.text));
    this.element.style.width = `${Math.round(height * ratio + 8 * (stream.cameras.length - 1))}px`;
    this.place = 0;
  }

  update(stream, now) {
    const { newest } = stream;
    if (!this.newest || this.newest.index !== newest.index || this.newest.uuid !== newest.uuid) {
      this.place = 0;
      fill(this.outcome, chip(newest.outcome));
    }
    const first = !this.newest;
    Object.assign(this, { stream, newest });
    this.link.href = episodeHash(stream.name, newest.index);
    this.link.textContent = `${stream.name} #${newest.index}`;
    this.age = `${duration((now - newest.committed_ns) / 1e9)} ago`;
    if (first) this.advance();
    this.say();
  }

  say() {
    this.text.textContent = `step ${this.step} of ${this.newest.steps}, committed ${this.age}`;
  }

  advance() {
    if (!this.newest) return;
    const { uuid, index, steps } = this.newest;
    const pictures = Math.min(STEPS_OF_EPISODE, steps);
    this.step = pictures > 1 ? Math.round(((this.place % pictures) * (steps - 1)) / (pictures - 1)) : 0;
    this.place += 1;
    this.cameras.forEach((camera) => camera.picture.show(frameUrl(uuid, this.stream.name, index, camera.name, this.step)));
    this.say();
  }
}

function meter(share) {
  const bar = el("i");
  bar.style.width = `${Math.round(100 * share)}%`;
  return el("span", { class: "meter" }, bar);
}

function spark(history) {
  if (!history) return "–";
  const most = Math.max(...history, 1), width = 150 / history.length;
  const bars = history.map((value, place) => value && svg("rect", { x: place * width, y: 25 - (24 * value) / most, width: width - 0.6, height: (24 * value) / most })).filter(Boolean);
  return svg("svg", { class: "spark", viewBox: "0 0 150 26", role: "img", "aria-label": `${sum(history, Number)} episodes in the last hour` }, svg("line", { x1: 0, x2: 150, y1: 25.5, y2: 25.5 }), ...bars);
}

/** [steps, values] with each step once: the last value counts. */
function unique([steps, values]) {
  const found = new Map(steps.map((step, place) => [step, values[place]]));
  return [[...found.keys()], [...found.values()]];
}
