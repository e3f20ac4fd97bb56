// The browser of episodes: filters, and a gallery of what they let through.
import { episodeHash, frameUrl, get } from "./api.js";
import { chip, clock, count, duration, el, fill } from "./dom.js";

const PAGE = 24;
const LOOK_EVERY_MS = 5000;

export class Episodes {
  constructor(view, query) {
    this.query = Object.fromEntries(new URLSearchParams(query));
    this.filters = el("form", { class: "card filters", onsubmit: (event) => event.preventDefault() });
    this.gallery = el("div", { class: "gallery" });
    this.note = el("p", { class: "empty", hidden: true });
    this.more = el("button", { class: "quiet more", type: "button", hidden: true, onclick: () => this.load(false) }, "Show more");
    fill(view, this.filters, this.note, this.gallery, this.more);
    this.shown = [];
    this.makeFilters();
    this.load(true);
    this.timer = setInterval(() => document.hidden || this.shown.length > PAGE || this.load(true), LOOK_EVERY_MS);
  }

  close() {
    clearInterval(this.timer);
    this.closed = true;
  }

  makeFilters() {
    const select = (name, title, all) => {
      const field = el("select", { name, onchange: () => this.changed() }, el("option", { value: "" }, all));
      return [field, el("label", {}, title, field)];
    };
    const number = (name, title, hint) => {
      const field = el("input", { name, type: "number", min: "0", step: "1", placeholder: hint, onchange: () => this.changed() });
      field.value = this.query[name] || "";
      return [field, el("label", {}, title, field)];
    };
    const made = { stream: select("stream", "Stream", "all streams"), outcome: select("outcome", "Outcome", "any"), version: select("version", "Policy or model", "any"), mark: select("mark", "Flags", "any"), first: number("first", "Index from", "0"), last: number("last", "to", "any") };
    this.fields = Object.fromEntries(Object.entries(made).map(([name, [field]]) => [name, field]));
    this.marks = made.mark[1];
    this.marks.hidden = true;
    this.total = el("span", { class: "count", role: "status" });
    fill(this.filters, Object.values(made).map(([, label]) => label), this.total);
  }

  changed() {
    for (const [name, field] of Object.entries(this.fields)) {
      if (field.value) this.query[name] = field.value;
      else delete this.query[name];
    }
    history.replaceState(null, "", `#/episodes?${new URLSearchParams(this.query)}`);
    this.load(true);
  }

  async load(anew) {
    const number = (this.asked = (this.asked || 0) + 1);
    const skip = anew ? 0 : this.shown.length;
    let found;
    try {
      found = await get("/api/episodes", { ...this.query, skip, count: PAGE });
    } catch (error) {
      if (number === this.asked && !this.closed) this.say(error.message);
      return;
    }
    if (number !== this.asked || this.closed) return;
    this.choose(found.choices);
    const key = (each) => `${each.uuid} ${each.stream} ${each.index} ${each.marks || ""}`;
    if (anew && found.episodes.map(key).join() === this.shown.map(key).join()) return this.count(found);
    this.shown = anew ? found.episodes : [...this.shown, ...found.episodes];
    const cards = found.episodes.map(card);
    if (anew) fill(this.gallery, cards);
    else this.gallery.append(...cards);
    this.count(found);
  }

  count({ total, choices }) {
    this.total.textContent = `${count(total)} episode${total === 1 ? "" : "s"}`;
    this.more.hidden = this.shown.length >= total;
    const missing = choices.versions_of - choices.versions_known;
    if (!total) this.say(Object.keys(this.query).length ? "No episode is like that." : "Nothing was committed yet.");
    else if (this.query.version && missing) this.say(`${count(missing)} episodes have not been looked into yet for their model; more may come.`);
    else this.note.hidden = true;
  }

  say(text) {
    this.note.hidden = false;
    this.note.textContent = text;
  }

  choose({ streams, outcomes, versions, marks }) {
    const choices = { stream: streams, outcome: outcomes, version: versions, mark: marks || [] };
    this.marks.hidden = !choices.mark.length;
    for (const [name, values] of Object.entries(choices)) {
      const field = this.fields[name], wanted = this.query[name] || "";
      const all = wanted && !values.includes(wanted) ? [...values, wanted] : values;
      const now = [...field.options].slice(1).map((option) => option.value);
      if (now.join("\n") !== all.join("\n")) fill(field, field.options[0], all.map((value) => el("option", { value }, value)));
      field.value = wanted;
    }
  }
}

function card(episode) {
  const { uuid, stream, index, steps, cameras, outcome } = episode;
  const thumb = steps && cameras.length
    ? el("img", { src: frameUrl(uuid, stream, index, cameras[0], steps - 1), alt: "", loading: "lazy", decoding: "async" })
    : steps ? "no cameras" : "not kept";
  return el("a", { class: `episode-card ${episode.marks.includes("discarded") ? "discarded" : ""}`, href: episodeHash(stream, index) },
    el("div", { class: "thumb" }, thumb),
    el("div", { class: "text" },
      el("div", {}, el("b", {}, `#${index}`), chip(outcome), episode.marks.map((mark) => el("span", { class: "chip mark" }, mark))),
      el("span", { class: "stream" }, stream),
      el("span", {}, steps ? `${steps} step${steps === 1 ? "" : "s"}, ${duration(steps / episode.rate_hz)}, ${clock(episode.committed_ns / 1e9)}` : clock(episode.committed_ns / 1e9)),
      el("span", { class: "model", title: episode.model }, episode.model)));
}
