// What the server is asked. An error's message is a sentence for people.

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("the page's server does not answer");
  }
  if (answer.status === 204) return null;
  let body = null;
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Error("the server's answer is cut off");
  }
  if (!answer.ok) {
    const error = new Error((body && body.error) || `the server answers ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return body;
}

export const get = (path, query) => {
  const given = Object.entries(query || {}).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return asked(given.length ? `${path}?${new URLSearchParams(given)}` : path);
};

export const post = (path, body) =>
  asked(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}) });

const part = (stream) => stream.split("/").map(encodeURIComponent).join("/");

export const frameUrl = (uuid, stream, index, camera, step) =>
  `/frames/${uuid}/${part(stream)}/${index}/${encodeURIComponent(camera)}/${step}.jpg`;

export const planUrl = (uuid, stream, index, when, push) => `/plans/${uuid}/${part(stream)}/${index}/${when}-${push}.png`;

export const episodeHash = (stream, index) => `#/episode/${index}/${part(stream)}`;

/** A picture that shows the last one that was wanted, one request at a time; what comes too late is not shown. */
export class Picture {
  constructor(image) {
    this.image = image;
    this.wanted = this.loading = null;
  }

  show(url) {
    this.wanted = url;
    if (this.loading === null) this.next();
  }

  async next() {
    while (this.wanted !== null && this.wanted !== this.loading) {
      const url = (this.loading = this.wanted);
      const made = new Image();
      made.src = url;
      try {
        await made.decode();
        this.image.src = url;
        this.image.removeAttribute("data-broken");
      } catch {
        this.image.setAttribute("data-broken", "");
      }
      if (this.wanted === url) break;
    }
    this.loading = null;
  }
}
