// What the console does beyond its forms and links, all of which work without it: pages that stay
// up to date, a filter that needs no answer, code that can be copied, and plots.
import { drawPlots } from "./plots.js";

// Parts of a page that stay up to date: the page is asked again, and what differs is replaced.

const parts = [...document.querySelectorAll("[data-live]")];
const pause = document.querySelector("[data-pause]");
const liveState = document.querySelector("[data-live-state]");
const OURS = new Set(["hidden", "open"]); // attributes that only the page itself changes
let isPaused = false;

function become(now, next) {
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
    now.replaceWith(next);
    return;
  }
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  for (const { name } of [...now.attributes]) {
    if (!next.hasAttribute(name) && !OURS.has(name)) now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (!OURS.has(name) && now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  const left = [...now.childNodes];
  const right = [...next.childNodes];
  right.forEach((child, index) => (left[index] ? become(left[index], child) : now.append(child)));
  left.slice(right.length).forEach((child) => child.remove());
}

let asked = 0;

async function refresh() {
  const mine = ++asked;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked) return; // asked again meanwhile
    for (const part of parts) {
      const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
      if (next) become(part, document.adoptNode(next));
    }
    say(isPaused ? "Paused" : "Live, of this gateway");
  } catch {
    say("The gateway does not answer");
  }
}

function say(text) {
  if (liveState && liveState.textContent !== text) liveState.textContent = text;
}

if (parts.length) {
  setInterval(() => isPaused || document.hidden || refresh(), 1000 * Math.min(...parts.map((part) => Number(part.dataset.every))));
  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      isPaused = !isPaused;
      pause.textContent = isPaused ? "Go on" : "Pause";
      say(isPaused ? "Paused" : "Live, of this gateway");
    });
  }
}

// The filter: what is typed is in the address, and the page is asked for what fits.

const filter = document.querySelector("[data-filter]");

function applyFilter() {
  const wanted = new URLSearchParams(new FormData(filter));
  history.replaceState(null, "", `?${wanted}`);
  refresh();
}
if (filter) {
  let typing;
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(applyFilter, 150);
  });
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    applyFilter();
  });
}

// Copying.

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue; // browsers have it where the page came over TLS or from here
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.closest(".code").querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// Files, as base64 in the field that they are for.

for (const picker of document.querySelectorAll("[data-into]")) {
  picker.hidden = false;
  picker.addEventListener("change", async () => {
    const bytes = new Uint8Array(await picker.files[0].arrayBuffer());
    let text = "";
    for (let from = 0; from < bytes.length; from += 8192) {
      text += String.fromCharCode(...bytes.subarray(from, from + 8192));
    }
    document.getElementById(picker.dataset.into).value = btoa(text);
  });
}

if (location.hash === "#answer") document.querySelector("#answer")?.focus();

drawPlots();
