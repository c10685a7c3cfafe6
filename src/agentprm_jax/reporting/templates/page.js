"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("viewer-data").textContent);
  const chart = byId("viewer-chart");
  const plot = { left: 64, right: 748, promiseTop: 14, promiseBottom: 148, progressTop: 166, progressBottom: 226, steps: 244 };
  const state = { trajectory: 0, step: 0, prm: null };

  const element = (tag, properties = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("aria-")) node.setAttribute(name, value);
      else node[name] = value;
    }
    node.append(...children);
    return node;
  };

  const shape = (tag, attributes = {}, text = "") => {
    const node = document.createElementNS(chart.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };

  const number = (value, signed = false) => {
    const digits = Math.abs(value).toFixed(3).replace(/^0\./, ".");
    if (digits === ".000") return digits;
    return (value < 0 ? "−" : signed ? "+" : "") + digits;
  };

  const trajectory = () => data.trajectories[state.trajectory];
  const scoredBy = () => data.prms.filter((prm) => prm.name in trajectory().scores);
  const scores = () => trajectory().scores[state.prm];
  const direction = (progress) => (progress < 0 ? "down" : "up");

  function drawList() {
    const groups = [["successful", true], ["failed", false]].map(([title, wanted]) => {
      const buttons = data.trajectories.flatMap((item, index) => {
        if (item.success !== wanted) return [];
        const steps = `${item.steps.length} ${item.steps.length === 1 ? "step" : "steps"}, outcome ${item.outcome}`;
        const button = element("button", { type: "button", title: item.id }, item.task, element("small", {}, steps));
        button.setAttribute("aria-current", String(index === state.trajectory));
        button.addEventListener("click", () => open(index));
        return [button];
      });
      return buttons.length ? [element("h3", {}, `${title} (${buttons.length})`), ...buttons] : [];
    });
    byId("viewer-list").replaceChildren(...groups.flat());
  }

  function drawTitle() {
    const item = trajectory();
    const verdict = element("span", { className: item.success ? "success" : "failure" }, item.success ? "✓ success" : "✗ failure");
    const actor = item.actor ? `, by ${item.actor}` : "";
    byId("viewer-title").replaceChildren(element("strong", {}, item.task), " · ", verdict, ` · outcome ${item.outcome}, ${item.ended}${actor}`);
  }

  function drawPrms() {
    const buttons = scoredBy().map((prm) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = prm.colour;
      const button = element("button", { type: "button", "aria-pressed": String(prm.name === state.prm) }, swatch, prm.label);
      button.addEventListener("click", () => { state.prm = prm.name; draw(); });
      return button;
    });
    byId("viewer-prms").replaceChildren(...buttons);
  }

  function drawChart() {
    const count = trajectory().steps.length;
    const width = (plot.right - plot.left) / Math.max(count, 1);
    const center = (step) => plot.left + width * (step + 0.5);
    chart.replaceChildren(shape("rect", { class: "now", x: plot.left + width * state.step, y: 4, width, height: plot.steps + 2 }));
    const every = Math.ceil(count / 24);
    for (let step = 0; step < count; step += every) {
      chart.append(shape("text", { x: center(step), y: plot.steps, "text-anchor": "middle" }, step + 1));
    }
    if (scores()) {
      drawPromises(center);
      drawProgress(center, Math.min(width * 0.6, 46));
    } else {
      chart.append(shape("text", { x: plot.left, y: 80 }, "No process reward model has scored this trajectory."));
    }
    for (let step = 0; step < count; step += 1) {
      const hit = shape("rect", { class: "hit", x: plot.left + width * step, y: 0, width, height: 250 });
      hit.addEventListener("click", () => go(step));
      chart.append(hit);
    }
  }

  function drawPromises(center) {
    const all = scoredBy().flatMap((prm) => trajectory().scores[prm.name].promise);
    const low = Math.min(0, ...all);
    const high = Math.max(1, ...all);
    const height = (value) => plot.promiseBottom - ((value - low) / (high - low)) * (plot.promiseBottom - plot.promiseTop);
    for (const tick of [0, 0.5, 1]) {
      chart.append(shape("line", { class: "grid", x1: plot.left, x2: plot.right, y1: height(tick), y2: height(tick) }));
      chart.append(shape("text", { x: plot.left - 6, y: height(tick) + 4, "text-anchor": "end" }, tick === 0.5 ? ".5" : tick));
    }
    chart.append(shape("text", { x: 12, y: (plot.promiseTop + plot.promiseBottom) / 2, transform: `rotate(-90 12 ${(plot.promiseTop + plot.promiseBottom) / 2})`, "text-anchor": "middle" }, "promise"));
    const ordered = [...scoredBy()].sort((a, b) => (a.name === state.prm) - (b.name === state.prm));
    for (const prm of ordered) {
      const chosen = prm.name === state.prm;
      const values = trajectory().scores[prm.name].promise;
      const points = values.map((value, step) => `${center(step)},${height(value)}`).join(" ");
      chart.append(shape("polyline", { points, fill: "none", stroke: prm.colour, "stroke-width": chosen ? 2.4 : 1.2, opacity: chosen ? 1 : 0.4 }));
      if (chosen) {
        values.forEach((value, step) => {
          chart.append(shape("circle", { cx: center(step), cy: height(value), r: step === state.step ? 5.5 : 3, fill: prm.colour }));
        });
      }
    }
  }

  function drawProgress(center, width) {
    const values = scores().progress;
    const middle = (plot.progressTop + plot.progressBottom) / 2;
    const largest = Math.max(0.05, ...values.map(Math.abs));
    values.forEach((value, step) => {
      const length = (Math.abs(value) / largest) * (plot.progressBottom - middle);
      chart.append(shape("rect", {
        class: direction(value), x: center(step) - width / 2, width, height: length,
        y: value < 0 ? middle : middle - length, opacity: step === state.step ? 1 : 0.55,
      }));
    });
    chart.append(shape("line", { class: "axis", x1: plot.left, x2: plot.right, y1: middle, y2: middle }));
    chart.append(shape("text", { x: plot.left - 6, y: plot.progressTop + 8, "text-anchor": "end" }, number(largest, true)));
    chart.append(shape("text", { x: plot.left - 6, y: plot.progressBottom, "text-anchor": "end" }, number(-largest)));
    chart.append(shape("text", { x: 12, y: middle, transform: `rotate(-90 12 ${middle})`, "text-anchor": "middle" }, "progress"));
  }

  function drawControls() {
    const count = trajectory().steps.length;
    byId("viewer-back").disabled = state.step === 0;
    byId("viewer-on").disabled = state.step >= count - 1;
    const slider = byId("viewer-slider");
    slider.max = Math.max(count, 1);
    slider.value = state.step + 1;
    let status = `Step ${state.step + 1} of ${count}`;
    if (scores()) status += ` · promise ${number(scores().promise[state.step])} · progress ${number(scores().progress[state.step], true)}`;
    byId("viewer-status").textContent = count ? status : "This trajectory has no steps.";
  }

  function drawTexts() {
    const item = trajectory();
    const step = item.steps[state.step];
    const block = (title, content, className = "") => [element("h4", {}, title), element("pre", { className }, content)];
    const parts = [];
    if (state.step === 0 && item.opening.length) {
      const opening = item.opening.map((message) => `[${message.role}]\n${message.content}`).join("\n\n");
      parts.push(element("details", {}, element("summary", {}, "Opening messages"), element("pre", {}, opening)));
    }
    if (step) {
      parts.push(...block("observation", step.observation || "(none)"), ...block("action", step.action, "action"));
      if (step.reward) parts.push(...block("reward", number(step.reward)));
      if (step.closing) parts.push(...block("the environment's last word", step.closing));
    }
    byId("viewer-texts").replaceChildren(...parts);
  }

  function drawSteps() {
    const colour = data.prms.find((prm) => prm.name === state.prm)?.colour;
    const items = trajectory().steps.map((step, index) => {
      const button = element("button", { type: "button" }, element("span", {}, index + 1), element("span", { className: "words" }, step.action));
      if (index === state.step) button.setAttribute("aria-current", "step");
      if (scores()) {
        const progress = scores().progress[index];
        const fill = element("i");
        fill.style.width = `${100 * Math.min(1, Math.max(0, scores().promise[index]))}%`;
        fill.style.background = colour;
        button.append(element("span", { className: `change ${direction(progress)}` }, number(progress, true)), element("span", { className: "bar" }, fill));
        button.title = `promise ${number(scores().promise[index])}, progress ${number(progress, true)}`;
      }
      button.addEventListener("click", () => go(index));
      return element("li", {}, button);
    });
    byId("viewer-steps").replaceChildren(...items);
  }

  function draw() {
    // Redrawing replaces buttons; the keyboard focus goes to the successor of the one that had it.
    const box = document.activeElement?.closest("#viewer-list, #viewer-prms, #viewer-steps");
    const place = box ? [...box.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    drawList(); drawTitle(); drawPrms(); drawChart(); drawControls(); drawTexts(); drawSteps();
    if (box) box.querySelectorAll("button")[place]?.focus({ preventScroll: true });
  }

  function go(step) {
    const last = Math.max(trajectory().steps.length - 1, 0);
    state.step = Math.min(last, Math.max(0, step));
    draw();
  }

  function open(index) {
    state.trajectory = index;
    state.step = 0;
    if (!(state.prm in trajectory().scores)) state.prm = scoredBy()[0]?.name ?? null;
    draw();
  }

  byId("viewer-back").addEventListener("click", () => go(state.step - 1));
  byId("viewer-on").addEventListener("click", () => go(state.step + 1));
  byId("viewer-slider").addEventListener("input", (event) => go(Number(event.target.value) - 1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "ArrowLeft") go(state.step - 1);
    if (event.key === "ArrowRight") go(state.step + 1);
  });
  byId("viewer").hidden = false;
  open(0);
})();
