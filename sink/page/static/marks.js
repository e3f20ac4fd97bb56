// Flags of episodes: shown to everyone, changed by those who have typed in the token.
import { post } from "./api.js";
import { clock, el, fill } from "./dom.js";

const part = (name) => document.getElementById(name);
const DONE = { flag: "flagged", unflag: "flag taken back", discard: "discarded", keep: "kept again" };

/** What the page knows of rights, and the dialog for the token. */
export class Marks {
  constructor() {
    this.readOnly = true;
    this.mayWrite = false;
    this.button = part("token-button");
    this.button.addEventListener("click", () => (this.mayWrite ? this.leave() : this.ask()));
    part("token-cancel").addEventListener("click", () => part("token-dialog").close());
    part("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter();
    });
  }

  update({ read_only, may_write }) {
    const changed = this.readOnly !== read_only || this.mayWrite !== may_write;
    this.readOnly = read_only;
    this.mayWrite = may_write;
    this.button.hidden = read_only;
    this.button.textContent = may_write ? "Lock" : "Unlock flags";
    if (changed && this.redraw) this.redraw();
  }

  /** Data were refused: on an address that others can reach, the token is needed to look. */
  failed({ status }) {
    if (status !== 401) return;
    this.button.hidden = false;
    this.button.textContent = "Token";
    if (!this.asked) this.ask();
    this.asked = true;
  }

  ask() {
    part("token").value = "";
    part("token-trouble").textContent = "";
    part("token-dialog").showModal();
  }

  async enter() {
    try {
      await post("/api/login", { token: part("token").value });
    } catch (error) {
      part("token-trouble").textContent = error.message;
      return;
    }
    part("token-dialog").close();
    this.update({ read_only: false, may_write: true });
    dispatchEvent(new Event("entered"));
  }

  async leave() {
    await post("/api/logout").catch(() => null);
    this.update({ read_only: this.readOnly, may_write: false });
  }

  /** The card of an episode; changed: called when something was written. */
  card(episode, changed) {
    const card = el("div", { class: "card marks" });
    const draw = () => this.draw(card, episode, changed);
    this.redraw = () => card.isConnected && draw();
    draw();
    return card;
  }

  draw(card, { stream, index, said }, changed) {
    if (said.trouble) {
      fill(card, el("h2", {}, "Flags"), el("p", { class: "trouble" }, said.trouble));
      return;
    }
    card.hidden = this.readOnly && !said.history.length;
    const now = ["flagged", "discarded"].filter((name) => said[name]);
    const head = el("h2", {}, "Flags", now.map((name) => el("span", { class: "chip mark" }, name)), now.length ? null : el("span", { class: "right" }, "none"));
    const lines = el("ul", {}, said.history.map((word) => el("li", {}, el("b", {}, DONE[word.what]), word.reason ? el("span", {}, word.reason) : null, el("span", { class: "dim" }, `${word.who}, ${clock(word.time_ns / 1e9)}`))));
    fill(card, head, said.history.length ? lines : null, this.mayWrite ? this.form({ stream, index }, said, changed) : null,
      !this.mayWrite && !this.readOnly ? el("p", { class: "dim" }, "Unlock to flag or discard this episode.") : null);
  }

  form(which, said, changed) {
    const reason = el("input", { placeholder: "Why?", "aria-label": "Reason", maxlength: "500" });
    const trouble = el("p", { class: "trouble", role: "alert" });
    const say = async (what) => {
      trouble.textContent = "";
      try {
        await post("/api/flag", { ...which, what, reason: reason.value });
        changed();
      } catch (error) {
        trouble.textContent = error.message;
      }
    };
    const button = (what, name) => el("button", { type: "button", class: what === "discard" ? "" : "quiet", onclick: () => say(what) }, name);
    return el("div", { class: "marks" },
      el("form", { onsubmit: (event) => { event.preventDefault(); say("flag"); } }, reason,
        said.flagged ? button("unflag", "Take flag back") : button("flag", "Flag"),
        said.discarded ? button("keep", "Keep again") : button("discard", "Discard")),
      trouble);
  }
}

