// Plots of the last hour, drawn by uPlot from a document of columns.

const COLOURS = ["--model", "--queue", "--good", "--soft"];
const EVERY_MS = 10_000;
const HEIGHT = 150;
const LEAST_S = 300; // so much time is shown at least

export function drawPlots() {
  const figures = [...document.querySelectorAll("[data-plot]")];
  if (!figures.length || !window.uPlot) return;
  const plots = figures.map((figure) => new Plot(figure));
  const draw = async () => {
    if (document.hidden) return;
    const documents = new Map();
    for (const source of new Set(figures.map((figure) => figure.dataset.plot))) {
      try {
        const answer = await fetch(source);
        if (answer.ok) documents.set(source, await answer.json());
      } catch {
        // the gateway is away: the next time, maybe
      }
    }
    for (const plot of plots) plot.show(documents.get(plot.source));
  };
  draw();
  setInterval(draw, EVERY_MS);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) plot.forget();
    draw();
  });
}

class Plot {
  constructor(figure) {
    this.figure = figure;
    this.source = figure.dataset.plot;
    this.box = figure.querySelector(".canvas");
    this.isTime = figure.dataset.unit === "s";
    new ResizeObserver(() => this.fit()).observe(this.box);
  }

  show(found) {
    if (!found) return;
    const lines = this.lines(found);
    const names = lines.map((line) => line.name).join();
    const [at, ...values] = [lines[0]?.at ?? [], ...lines.map((line) => line.values)];
    const begin = (at.at(-1) ?? Date.now() / 1000) - LEAST_S;
    const isShort = !(at[0] < begin); // with nothing before, so that a point has a place
    const data = isShort ? [[begin, ...at], ...values.map((line) => [null, ...line])] : [at, ...values];
    this.ends = data[0];
    if (!this.plot || names !== this.names) {
      this.forget();
      this.names = names;
      this.plot = new uPlot(this.options(lines), data, this.box);
    } else {
      this.plot.setData(data);
    }
    this.tell(lines);
  }

  // The lines: several of one target, or one of each version of a model.
  lines(found) {
    const { lines, version } = this.figure.dataset;
    if (version === "*") {
      return Object.keys(found).map((name) => ({ name, at: found[name].at, values: found[name][lines] }));
    }
    const columns = version ? (found[version] ?? { at: [] }) : found;
    return lines.split(",").map((line) => {
      const [key, name] = line.split(":");
      return { name, at: columns.at, values: columns[key] ?? [] };
    });
  }

  options(lines) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--faint"), width: 1 }, ticks: { show: false } };
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const value = (number) => (this.isTime ? seconds(number) : plain(number));
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      hooks: { setCursor: [(plot) => this.tell(lines, plot)] },
      scales: { y: { range: (_, __, high) => [0, (high || 1) * 1.1] } },
      axes: [
        { ...axis, font, space: 70, size: 24, values: (_, ticks) => ticks.map(clock) },
        { ...axis, font, space: 30, size: 56, values: (_, ticks) => ticks.map(value) },
      ],
      series: [
        {},
        ...lines.map((line, index) => ({
          label: line.name,
          stroke: colour(COLOURS[index % COLOURS.length]),
          width: 1.5,
          spanGaps: false,
          points: { show: this.ends.length < 5 },
        })),
      ],
    };
  }

  // What the lines are, and how high now or under the pointer: also for who does not see them.
  tell(lines, plot) {
    const index = plot?.cursor.idx;
    const of = (line, number) => (index == null ? line.values.at(-1) : plot.data[number + 1][index]);
    const show = (number) => (number == null ? "–" : this.isTime ? seconds(number) : plain(number));
    let keys = this.figure.querySelector(".keys");
    if (!keys) {
      keys = document.createElement("span");
      keys.className = "keys";
      this.figure.querySelector("figcaption").append(keys);
    }
    keys.replaceChildren(
      ...lines.map((line, number) => {
        const key = document.createElement("span");
        const figure = document.createElement("em");
        key.className = `is-${number % COLOURS.length}`;
        figure.textContent = ` ${show(of(line, number))}`;
        key.append(line.name, figure);
        return key;
      }),
    );
    const peaks = lines.map((line) => `${line.name}: ${show(line.values.at(-1))} now, ${show(Math.max(...line.values))} at most`);
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label", `The last hour. ${peaks.join(". ")}`);
  }

  fit() {
    this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT });
  }

  forget() {
    this.plot?.destroy();
    this.plot = undefined;
  }
}

function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

function seconds(number) {
  return number >= 1 ? `${plain(number)} s` : `${plain(number * 1000)} ms`;
}

function plain(number) {
  if (number === 0) return "0";
  return number >= 10 ? String(Math.round(number)) : String(Number(number.toPrecision(2)));
}
