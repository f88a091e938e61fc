// What the console does beyond its forms and links, all of which work without it: pages that stay
// up to date, a filter that needs no answer, code that can be copied, and plots.
import { drawPlots } from "./plots.js";

// Parts of a page that stay up to date: the page is asked again, and what differs is replaced.

const parts = [...document.querySelectorAll("[data-live]")];
const pause = document.querySelector("[data-pause]");
const liveState = document.querySelector("[data-live-state]");
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
    if (!next.hasAttribute(name) && name !== "hidden" && name !== "open") now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  const left = [...now.childNodes];
  const right = [...next.childNodes];
  right.forEach((child, index) => (left[index] ? become(left[index], child) : now.append(child)));
  left.slice(right.length).forEach((child) => child.remove());
}

async function refresh() {
  if (isPaused || document.hidden) return;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts) {
      const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
      if (next) become(part, document.adoptNode(next));
    }
    say("Live, of this gateway");
    applyFilter();
  } catch {
    say("The gateway does not answer");
  }
}

function say(text) {
  if (liveState && liveState.textContent !== text) liveState.textContent = text;
}

if (parts.length) {
  setInterval(refresh, 1000 * Math.min(...parts.map((part) => Number(part.dataset.every))));
  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      isPaused = !isPaused;
      pause.textContent = isPaused ? "Go on" : "Pause";
      say(isPaused ? "Paused" : "Live, of this gateway");
    });
  }
}

// The filter.

const filter = document.querySelector("[data-filter]");

function applyFilter() {
  if (!filter) return;
  const wanted = filter.value.trim().toLowerCase();
  const rows = [...document.querySelectorAll(`${filter.dataset.filter} tbody tr[data-text]`)];
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.dataset.text.includes(wanted);
    shown += row.hidden ? 0 : 1;
  }
  const count = document.querySelector("[data-count]");
  if (count) count.textContent = shown === rows.length ? `${shown} versions` : `${shown} of ${rows.length}`;
}
if (filter) {
  filter.addEventListener("input", applyFilter);
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  applyFilter();
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

if (location.hash === "#answer") document.querySelector("#answer")?.focus();

drawPlots();
