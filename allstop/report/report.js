// SPDX-License-Identifier: GPL-2.0-or-later
// Draws the timelines of a report. Their data is JSON in the page; see stress/report_timeline.py for its form.
"use strict";
(function () {
  const BAR_FIELDS = { lane: 0, row: 1, category: 2, begin: 3, took: 4, words: 5, events: 6, busy: 7 };
  const NAMES = {
    guest: "in the guest", exit: "exit handled", mmio: "device access", fetch: "instruction fetch",
    stop: "waiting for the world", held: "owns the world", tlb: "TLB invalidation", sleep: "WFI", parked: "parked",
    psci: "PSCI", flip: "W^X toggle", paged: "page of another host's", off: "switched off",
    bad: "violation or loss", end: "end of the run", power: "power", retry: "fetch tried again",
    abort: "abort injected", other: "other event",
  };
  const AXIS = 22;

  function duration(ns) {
    const size = Math.abs(ns);
    const [unit, by] = size >= 1e9 ? ["s", 1e9] : size >= 1e6 ? ["ms", 1e6] : size >= 1e3 ? ["µs", 1e3] : ["ns", 1];
    return parseFloat((ns / by).toPrecision(4)) + " " + unit;
  }

  class Timeline {
    constructor(root, data) {
      this.data = data;
      this.canvas = root.querySelector("canvas");
      this.readout = root.querySelector(".readout");
      this.range = root.querySelector(".range");
      this.pointers = new Map();
      this.laneHeight = data.lanes.length > 24 ? 17 : data.lanes.length > 10 ? 26 : 40;
      this.index = data.lanes.map(() => []);
      for (const bar of data.bars) this.index[bar[BAR_FIELDS.lane]].push(bar);
      this.used = new Set(["guest"]);
      for (const bar of data.bars) this.used.add(data.words[bar[BAR_FIELDS.category]]);
      for (const mark of data.marks) this.used.add(data.words[mark[1]]);
      this.reset();
      this.listen(root);
      this.explain(root.querySelector(".legend"));
    }

    reset() {
      this.from = this.data.begin;
      this.to = this.data.end;
      this.draw();
    }

    listen(root) {
      const canvas = this.canvas;
      const moves = {
        in: () => this.zoom(0.5, 0.5), out: () => this.zoom(2, 0.5), left: () => this.pan(-0.3),
        right: () => this.pan(0.3), all: () => this.reset(),
      };
      for (const button of root.querySelectorAll("button[data-move]"))
        button.addEventListener("click", moves[button.dataset.move]);
      canvas.addEventListener("keydown", (event) => {
        const move = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", "0": "all" }[event.key];
        if (!move) return;
        event.preventDefault();
        moves[move]();
      });
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return; // the page scrolls
        event.preventDefault();
        if (event.shiftKey) this.pan((event.deltaY || event.deltaX) / 600);
        else this.zoom(Math.exp(event.deltaY / 300), this.share(event.offsetX));
      }, { passive: false });
      canvas.addEventListener("dblclick", (event) => this.zoom(0.25, this.share(event.offsetX)));
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.pointers.set(event.pointerId, event.offsetX);
        this.say(event.offsetX, event.offsetY);
      });
      canvas.addEventListener("pointermove", (event) => this.drag(event));
      for (const name of ["pointerup", "pointercancel"])
        canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
      new ResizeObserver(() => this.draw()).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    drag(event) {
      const before = this.pointers.get(event.pointerId);
      if (before === undefined) {
        this.say(event.offsetX, event.offsetY);
        return;
      }
      const others = [...this.pointers.entries()].filter(([id]) => id !== event.pointerId);
      if (others.length === 1) {
        const fixed = others[0][1];
        const was = Math.abs(before - fixed), is = Math.abs(event.offsetX - fixed);
        if (was > 8 && is > 8) this.zoom(was / is, this.share(fixed));
      } else {
        this.pan((before - event.offsetX) / this.width());
      }
      this.pointers.set(event.pointerId, event.offsetX);
    }

    gutter() { return this.canvas.clientWidth < 560 ? 62 : 96; }
    width() { return Math.max(40, this.canvas.clientWidth - this.gutter() - 4); }
    share(x) { return Math.min(1, Math.max(0, (x - this.gutter()) / this.width())); }

    zoom(factor, share) {
      const at = this.from + (this.to - this.from) * share;
      const most = this.data.end - this.data.begin;
      const span = Math.min(most, Math.max(1000, (this.to - this.from) * factor));
      this.place(at - span * share, span);
    }

    pan(shares) {
      const span = this.to - this.from;
      this.place(this.from + span * shares, span);
    }

    place(from, span) {
      this.from = Math.max(this.data.begin, Math.min(this.data.end - span, from));
      this.to = this.from + span;
      this.draw();
    }

    draw() {
      const canvas = this.canvas, lanes = this.data.lanes, high = AXIS + lanes.length * this.laneHeight;
      canvas.style.height = high + "px";
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.round(canvas.clientWidth * scale);
      canvas.height = Math.round(high * scale);
      const g = canvas.getContext("2d");
      g.scale(scale, scale);
      const style = getComputedStyle(document.documentElement);
      this.colour = (name) => style.getPropertyValue(name).trim();
      g.font = "11px system-ui, sans-serif";
      g.textBaseline = "middle";
      this.drawAxis(g, high);
      for (let lane = 0; lane < lanes.length; lane++) this.drawLane(g, lane);
      this.drawMarks(g, high);
      this.range.textContent = `${this.from ? duration(this.from) : 0} to ${duration(this.to)} (${duration(this.to - this.from)})`;
    }

    x(ns) { return this.gutter() + (ns - this.from) / (this.to - this.from) * this.width(); }

    drawAxis(g, high) {
      const span = this.to - this.from, wanted = Math.max(3, Math.floor(this.width() / 110));
      const rough = span / wanted, power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
      g.textAlign = "center";
      for (let ns = Math.ceil(this.from / step) * step; ns <= this.to; ns += step) {
        const x = this.x(ns);
        g.fillStyle = this.colour("--rule");
        g.fillRect(Math.round(x), AXIS - 5, 1, high - AXIS + 5);
        const label = ns === 0 ? "0" : duration(parseFloat(ns.toPrecision(6))), half = g.measureText(label).width / 2;
        g.fillStyle = this.colour("--faint");
        g.fillText(label, Math.min(Math.max(x, this.gutter() + half), this.gutter() + this.width() - half), 8);
      }
    }

    drawLane(g, lane) {
      const top = AXIS + lane * this.laneHeight, inner = this.laneHeight - 5, left = this.gutter(), wide = this.width();
      const [name, began, ended] = this.data.lanes[lane];
      g.textAlign = "left";
      g.fillStyle = this.colour("--ink");
      g.fillText(name, 0, top + inner / 2, left - 8);
      g.fillStyle = this.colour("--soft");
      g.fillRect(left, top, wide, inner);
      g.save();
      g.beginPath();
      g.rect(left, top, wide, inner);
      g.clip();
      if (/(^|\/)vcpu-/.test(name)) {
        g.fillStyle = this.colour("--c-guest");
        g.fillRect(this.x(began), top, this.x(ended) - this.x(began), inner);
      }
      for (const bar of this.index[lane]) {
        const [, row, category, begin, took, , events, busy] = bar;
        if (begin + took < this.from || begin > this.to) continue;
        const x = this.x(begin), long = Math.max(1, this.x(begin + took) - x);
        g.globalAlpha = events > 1 ? 0.25 + 0.75 * Math.min(1, busy / took) : 1;
        g.fillStyle = this.colour("--c-" + this.data.words[category]);
        g.fillRect(x, top + inner * row / 3, long, inner * (row === 0 ? 1 : (3 - row) / 3));
      }
      g.restore();
    }

    drawMarks(g, high) {
      for (const [lane, category, at] of this.data.marks) {
        if (at < this.from || at > this.to) continue;
        const name = this.data.words[category], x = this.x(at), top = AXIS + lane * this.laneHeight;
        g.fillStyle = this.colour("--c-" + name);
        if (name === "bad" || name === "end") g.fillRect(x - 0.75, AXIS - 4, 1.5, high - AXIS + 4);
        g.beginPath();
        g.moveTo(x - 4, top - 4);
        g.lineTo(x + 4, top - 4);
        g.lineTo(x, top + 4);
        g.fill();
      }
    }

    say(x, y) {
      const lane = Math.floor((y - AXIS) / this.laneHeight), data = this.data;
      if (lane < 0 || lane >= data.lanes.length || x < this.gutter()) return;
      const per = (this.to - this.from) / this.width(), at = this.from + (x - this.gutter()) * per;
      const mark = data.marks.find((m) => m[0] === lane && Math.abs(m[2] - at) < 4 * per);
      const row = Math.min(2, Math.floor((y - AXIS - lane * this.laneHeight) / (this.laneHeight - 5) * 3));
      let best = null;
      for (const bar of this.index[lane]) {
        const inside = bar[BAR_FIELDS.begin] - per <= at && at <= bar[BAR_FIELDS.begin] + bar[BAR_FIELDS.took] + per;
        if (inside && bar[BAR_FIELDS.row] <= row && (!best || bar[BAR_FIELDS.row] >= best[BAR_FIELDS.row])) best = bar;
      }
      let text = `${data.lanes[lane][0]} at ${duration(at)}`;
      if (mark) text += ` | ${data.words[mark[3]]}`;
      else if (best) text += ` | ${this.describe(best)}`;
      this.readout.textContent = text;
    }

    describe(bar) {
      const { words, events, took, busy, begin } = BAR_FIELDS, said = this.data.words[bar[words]];
      const when = `from ${duration(bar[begin])}, ${duration(bar[took])}`;
      if (bar[events] === 1) return `${said} (${when})`;
      return `${bar[events].toLocaleString("en")} events such as "${said}" (${when}, ${duration(bar[busy])} of it)`;
    }

    explain(legend) {
      for (const [name, words] of Object.entries(NAMES)) {
        if (!this.used.has(name)) continue;
        const item = document.createElement("span"), box = document.createElement("i");
        box.style.background = `var(--c-${name})`;
        item.append(box, words);
        legend.append(item);
      }
    }
  }

  const all = JSON.parse(document.getElementById("timelines").textContent);
  document.querySelectorAll("[data-timeline]").forEach((root) => new Timeline(root, all[root.dataset.timeline]));
  document.documentElement.dataset.drawn = "yes";
})();
