// The page's own script. The server renders everything; this draws charts in the colours of the page, follows the
// sliders with words, sends files, and remembers the colours. Expressions of charts are interpreted, never compiled.
(function () {
  "use strict";
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const words = { auto: "as the system", light: "light", dark: "dark" };
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("theme") || "auto"; } catch { return "auto"; } };
  const isDark = () => (root.dataset.theme === "auto" ? preference.matches : root.dataset.theme === "dark");
  root.dataset.theme = chosen();

  const views = new Map();
  const known = new WeakMap();
  let configs = null;
  let watcher = null;

  function notice(text) {
    const place = document.getElementById("notice");
    place.textContent = text;
    place.classList.toggle("shown", Boolean(text));
  }

  async function draw(host) {
    const spec = JSON.parse(host.dataset.spec);
    const theme = isDark() ? "dark" : "light";
    const drawn = host.dataset.spec + theme;
    if (!window.vegaEmbed) return;
    if (known.get(host) === drawn) { host.classList.add("vega-embed", "has-actions"); return; } // a morph took them off
    known.set(host, drawn);
    if (views.has(host)) views.get(host).finalize();
    const name = host.id.replace("chart-", "");
    const result = await window.vegaEmbed(host, spec, {
      ast: true, renderer: "svg", config: configs[theme], tooltip: { theme }, downloadFileName: name,
      actions: { export: true, source: false, compiled: false, editor: false },
    });
    views.set(host, result);
    const menu = host.querySelector("summary");
    if (menu) menu.setAttribute("aria-label", "Save the chart " + name + " as a picture");
    const picture = host.querySelector("svg.marks");
    if (picture) { picture.setAttribute("role", "img"); picture.setAttribute("aria-label", spec.description); }
    if (host.dataset.hrefs) {
      const hrefs = JSON.parse(host.dataset.hrefs);
      result.view.addEventListener("click", (_, item) => {
        const at = item && item.datum ? item.datum.index : undefined;
        if (at !== undefined && hrefs[at]) window.location.assign(hrefs[at]);
      });
      host.classList.add("clickable");
    }
    host.dataset.state = "drawn";
  }

  function findCharts(within) {
    for (const host of within.querySelectorAll("[data-spec]")) watcher.observe(host);
  }

  function redraw() {
    for (const [host] of views) if (host.isConnected) draw(host); else views.delete(host);
  }

  function follow(input) {
    const texts = JSON.parse(input.dataset.texts);
    const text = texts[Math.round((input.value - input.min) / input.step)];
    document.getElementById(input.id + "-text").textContent = text;
    input.setAttribute("aria-valuetext", text);
    const share = (input.value - input.min) / (input.max - input.min || 1);
    const rest = (input.dataset.rest - input.min) / (input.max - input.min || 1);
    input.style.setProperty("--at", 100 * share + "%");
    input.style.setProperty("--rest", 100 * rest + "%");
  }

  function prepare(within) {
    for (const input of within.querySelectorAll("input[type=range]")) {
      // The resting place is the default, so that a reset goes back to the design; the URL may say otherwise.
      if (input.dataset.value === undefined) continue;
      input.value = input.dataset.value;
      delete input.dataset.value;
      follow(input);
    }
    findCharts(within);
  }

  function send(method, address, body) {
    const token = document.querySelector("meta[name=csrf-token]").content;
    return fetch(address, { method, body, headers: { "content-type": "application/json", "x-csrf-token": token } });
  }

  async function reason(response) {
    try {
      const { error } = await response.json();
      return [error.what, error.why, error.fix].filter(Boolean).join(". ");
    } catch { return "The studio refused this (" + response.status + "); reload the page."; }
  }

  async function upload(input) {
    const file = input.files[0];
    if (!file) return;
    notice("");
    if (file.size > 4000000) { notice(file.name + " is larger than 4 MB: is this the right file?"); input.value = ""; return; }
    try {
      const response = await send("POST", "/api/documents/" + input.dataset.upload, file);
      if (!response.ok) { notice(file.name + ": " + (await reason(response))); return; }
      const { digest } = await response.json();
      const state = new URLSearchParams(window.location.search);
      if (input.dataset.upload === "design") { window.location.assign("/?opened=" + digest); return; }
      const kept = new URLSearchParams({ mode: "estimate", config: digest });
      for (const name of ["accelerator", "devices", "seq_len", "batch", "precision", "tokens"]) {
        const value = document.getElementById(name).value || state.get(name);
        if (value) kept.set(name, value);
      }
      window.location.assign("/?" + kept);
    } catch (error) { notice("The studio does not answer: " + error.message); } finally { input.value = ""; }
  }

  async function ladder(method, address, body) {
    notice("");
    const response = await send(method, address, body);
    if (!response.ok) notice(await reason(response));
    window.htmx.trigger("#ladders", "refresh");
  }

  function showMode() {
    const checked = document.querySelector("input[name=mode]:checked");
    if (!checked) return;
    const form = document.getElementById("request-form");
    form.dataset.mode = checked.value;
    for (const [mode, other] of [["design", "estimate"], ["estimate", "design"]]) {
      for (const part of form.querySelectorAll(".only-" + mode + " input, .only-" + mode + " select"))
        part.disabled = checked.value === other && part.type !== "file";
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    configs = JSON.parse(document.getElementById("chart-themes").textContent);
    watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "300px" });
    const toggle = document.querySelector("[data-theme-toggle]");
    const name = () => toggle.setAttribute("aria-label", "Colours: " + words[root.dataset.theme]);
    name();
    toggle.addEventListener("click", () => {
      root.dataset.theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window: lasts as long as the page */ }
      name();
      redraw();
    });
    preference.addEventListener("change", redraw);
    document.querySelector("[data-copy-link]").addEventListener("click", async (event) => {
      try { await navigator.clipboard.writeText(window.location.href); event.target.textContent = "Copied"; }
      catch { notice("Copy the address from the address bar: " + window.location.href); }
    });
    document.addEventListener("change", (event) => {
      if (event.target.matches("[data-upload]")) upload(event.target);
      if (event.target.matches("input[name=mode]")) showMode();
    });
    document.addEventListener("input", (event) => { if (event.target.matches("input[type=range]")) follow(event.target); });
    document.addEventListener("reset", (event) => {
      if (event.target.id === "sliders") setTimeout(() => event.target.querySelectorAll("input[type=range]").forEach(follow), 0);
    });
    document.addEventListener("submit", (event) => {
      if (event.target.matches("[data-ladder-start]")) {
        event.preventDefault();
        ladder("POST", "/api/ladders", JSON.stringify({ minutes: Number(event.target.minutes.value) }));
      }
      if (event.target.id === "request-form") {
        // Empty fields say nothing and only lengthen the address.
        for (const part of event.target.elements) if (part.name && part.value === "") part.disabled = true;
      }
    });
    document.addEventListener("click", (event) => {
      const stop = event.target.closest("[data-ladder-stop]");
      if (stop) ladder("DELETE", "/api/ladders/" + encodeURIComponent(stop.dataset.ladderStop));
    });
    document.addEventListener("htmx:after:swap", () => prepare(document));
    document.addEventListener("htmx:error", (event) => {
      const error = event.detail && event.detail.error;
      if (!error || error.name !== "AbortError") notice("The studio does not answer; is it still running?");
    });
    window.addEventListener("pageshow", () => {
      for (const part of document.getElementById("request-form").elements) part.disabled = false;
      showMode();
    });
    showMode();
    prepare(document);
    root.dataset.page = "ready";
  });
})();
