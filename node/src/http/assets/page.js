// Keeps the page fresh. Everything it shows is already in the HTML; without this script a reload does the same.
"use strict";
(() => {
  const main = document.querySelector("main");
  const lost = document.getElementById("lost");
  if (!main || "still" in main.dataset || !window.EventSource) return;
  let waiting = false;
  let lastFetch = 0;

  async function refresh() {
    waiting = false;
    lastFetch = Date.now();
    try {
      const response = await fetch("/today" + location.search, { credentials: "same-origin" });
      if (!response.ok) {
        lost.hidden = false;
        return;
      }
      const text = await response.text();
      const open = new Set([...main.querySelectorAll("details[open]")].map((details) => details.id));
      main.innerHTML = text;
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      stamp();
    } catch {
      lost.hidden = false;
    }
  }

  // At most one refresh in two seconds, and none while nobody looks.
  function soon() {
    if (waiting || document.hidden) return;
    waiting = true;
    setTimeout(refresh, Math.max(0, 2000 - (Date.now() - lastFetch)));
  }

  function stamp() {
    for (const age of main.querySelectorAll("[data-age]")) age.dataset.at = Date.now() - Number(age.dataset.age);
  }

  // Ages grow by themselves, so that an old value never looks new.
  function tick() {
    for (const age of main.querySelectorAll("[data-at]")) {
      const seconds = Math.floor((Date.now() - Number(age.dataset.at)) / 1000);
      const template = seconds < 120 ? age.dataset.seconds : age.dataset.minutes;
      age.textContent = template.replace("{0}", seconds < 120 ? seconds : Math.floor(seconds / 60));
    }
  }

  function listen() {
    const events = new EventSource("/api/v1/events");
    events.onopen = () => { lost.hidden = true; soon(); };
    events.onerror = () => {
      lost.hidden = false;
      // After a refusal (the node is starting or has too many listeners) a browser does not try again by itself.
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
    };
    for (const name of ["interval", "block", "power"]) events.addEventListener(name, soon);
  }

  listen();
  document.addEventListener("visibilitychange", soon);
  stamp();
  setInterval(tick, 1000);
})();
