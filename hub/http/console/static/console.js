// The console's script: pages follow what happens, times are said in the reader's own zone, ids can be copied.
// Without it everything works too; it only ever asks for the page one is on.
"use strict";
(() => {
  // Times ------------------------------------------------------------------------------------------------------------
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const today = new Intl.DateTimeFormat(undefined, clock);
  const exact = new Intl.DateTimeFormat(undefined, { ...clock, fractionalSecondDigits: 3 });
  const dated = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", ...clock });
  const old = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", ...clock });
  const said = (at, how) => {
    const date = new Date(at);
    const now = new Date();
    if (date.getFullYear() !== now.getFullYear()) return old.format(at);
    if (date.toDateString() !== now.toDateString()) return dated.format(at);
    return (how === "exact" ? exact : today).format(at);
  };
  const passed = (at) => {
    const seconds = Math.round((Date.now() - at) / 1000);
    const size = Math.abs(seconds);
    let words = `${size} s`;
    if (size >= 172800) words = `${Math.floor(size / 86400)} days`;
    else if (size >= 86400) words = "1 day";
    else if (size >= 3600) {
      const minutes = Math.floor((size % 3600) / 60);
      words = `${Math.floor(size / 3600)} h` + (minutes ? ` ${minutes} min` : "");
    } else if (size >= 60) words = `${Math.floor(size / 60)} min`;
    return seconds === 0 ? "now" : seconds > 0 ? `${words} ago` : `in ${words}`;
  };
  const tell = (root) => {
    for (const time of root.querySelectorAll("time[data-how]")) {
      const at = Date.parse(time.dateTime);
      if (Number.isNaN(at)) continue;
      const how = time.dataset.how;
      const text = how === "ago" ? passed(at) : said(at, how) + (how === "both" ? ` (${passed(at)})` : "");
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Copying ----------------------------------------------------------------------------------------------------------
  const canCopy = Boolean(navigator.clipboard);
  const show = (root) => {
    tell(root);
    if (canCopy) for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
  };
  const announce = (text) => {
    const place = document.getElementById("announce");
    if (place) place.textContent = text;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    if (button.dataset.told) return; // it still says how the last one went
    button.dataset.told = "yes";
    const before = button.innerHTML;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
      announce("Copied");
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => { button.innerHTML = before; delete button.dataset.told; }, 1500);
  });

  show(document);
  setInterval(() => { if (!document.hidden) tell(document); }, 10000);

  // Live -------------------------------------------------------------------------------------------------------------
  const indicator = document.getElementById("live");
  const regions = () => [...document.querySelectorAll("[data-live][id]")];
  if (!indicator || !regions().length || !window.EventSource) return;
  const GENTLE = 400; // milliseconds between looks, however much happens
  const PAGE = document.body.dataset.page || location.href; // of what a form was answered with, the page it stands for
  const HELD = 2000; // milliseconds after which one sees whether the reader has let go of a region
  let stream = null;
  let wanted = new Set();
  let timer = 0;
  let busy = false;

  const state = (name, text) => {
    indicator.hidden = false;
    indicator.dataset.state = name;
    indicator.querySelector(".live-text").textContent = text;
  };
  const topics = (region) => region.dataset.live.split(/\s+/).filter(Boolean);

  const hear = (event) => {
    const heard = new Set(event.data.split(/\s+/));
    for (const region of regions()) {
      if (heard.has("*") || topics(region).some((topic) => heard.has(topic))) wanted.add(region.id);
    }
    plan();
  };
  const plan = () => {
    if (!wanted.size || timer || busy || document.hidden) return;
    const isFree = [...wanted].map((id) => document.getElementById(id)).some((one) => !one || !isInHand(one));
    timer = isFree ? setTimeout(look, GENTLE) : setTimeout(() => { timer = 0; plan(); }, HELD);
  };
  const look = async () => {
    timer = 0;
    if (document.hidden) return;
    busy = true;
    const ids = wanted;
    wanted = new Set();
    try {
      const answer = await fetch(PAGE, {
        headers: { "Partyline-Live": "swap" }, credentials: "same-origin", cache: "no-store", redirect: "error",
      });
      if (answer.status === 401) return end();
      const text = await answer.text();
      if (document.hidden) for (const id of ids) wanted.add(id); // what is seen again is asked for again
      else if (answer.ok) swap(new DOMParser().parseFromString(text, "text/html"), ids);
    } catch {
      for (const id of ids) wanted.add(id);
      setTimeout(plan, 5000);
      return;
    } finally {
      busy = false;
    }
    plan();
  };

  // A region is swapped as a whole; what the reader has in hand stays: open details, fields, focus, scroll position.
  const keyOf = (element, root) => {
    if (element.id) return `#${element.id}`;
    const path = [];
    for (let at = element; at && at !== root; at = at.parentElement) {
      if (at.id) { path.unshift(`#${at.id}`); break; }
      path.unshift([...at.parentElement.children].filter((other) => other.tagName === at.tagName).indexOf(at) + at.tagName);
    }
    return path.join(">");
  };
  const find = (root, key) => [...root.querySelectorAll("*")].find((element) => keyOf(element, root) === key);
  const FIELDS = "input:not([type=hidden]), textarea, select";
  const isChanged = (field) => {
    if (field.matches("[type=checkbox], [type=radio]")) return field.checked !== field.defaultChecked;
    if (!field.matches("select")) return field.value !== field.defaultValue;
    const first = [...field.options].findIndex((one) => one.defaultSelected);
    return field.selectedIndex !== Math.max(first, 0);
  };
  const isInHand = (region) => {
    const active = document.activeElement;
    const isTyping = active && region.contains(active) && active.matches(FIELDS);
    const isFilledIn = [...region.querySelectorAll(FIELDS)].some(isChanged);
    const picked = getSelection();
    const isSelecting = picked && !picked.isCollapsed && picked.anchorNode && region.contains(picked.anchorNode);
    return isTyping || isFilledIn || isSelecting;
  };
  const swap = (page, ids) => {
    let said = "";
    for (const id of ids) {
      const old = document.getElementById(id);
      const next = page.getElementById(id);
      if (old && !next && old.dataset.gone === "reload") return location.reload(); // the page has become another
      if (!old || !next) continue;
      if (isInHand(old)) { wanted.add(id); continue; } // later, when the hands are off
      show(next);
      if (old.innerHTML === next.innerHTML) continue;
      const active = document.activeElement;
      const focus = active && active !== old && old.contains(active) ? keyOf(active, old) : null;
      const open = [...old.querySelectorAll("details")].map((one) => [keyOf(one, old), one.open]);
      const scrolls = [...old.querySelectorAll("*")].filter((one) => one.scrollTop || one.scrollLeft)
        .map((one) => [keyOf(one, old), one.scrollTop, one.scrollLeft]);
      const known = new Set([...old.querySelectorAll("[id]")].map((one) => one.id));
      const top = old.getBoundingClientRect().top;
      const height = old.offsetHeight;
      old.innerHTML = next.innerHTML;
      for (const [key, is] of open) { const one = find(old, key); if (one) one.open = is; }
      for (const [key, y, x] of scrolls) { const one = find(old, key); if (one) { one.scrollTop = y; one.scrollLeft = x; } }
      if (focus) { const one = find(old, focus); if (one) one.focus({ preventScroll: true }); }
      for (const one of old.querySelectorAll("[data-fresh][id]")) if (!known.has(one.id)) one.classList.add("fresh");
      // What is above the reader's eyes and grew must not push away what they read.
      if (top + height < 0) scrollBy(0, old.offsetHeight - height);
      if (old.dataset.announce) said = old.dataset.announce;
    }
    if (said) whisper(said);
  };
  let whispered = 0;
  const whisper = (text) => {
    if (Date.now() - whispered < 15000) return; // politely: not at every change
    whispered = Date.now();
    announce("");
    setTimeout(() => announce(text), 50);
  };

  const start = () => {
    if (stream || document.hidden) return;
    const all = [...new Set(regions().flatMap(topics))];
    stream = new EventSource(`/console/live?topics=${encodeURIComponent(all.join(","))}`);
    state("waiting", "connecting");
    stream.addEventListener("open", () => state("live", "live"));
    stream.addEventListener("hint", hear);
    stream.addEventListener("end", end);
    stream.addEventListener("error", () => {
      state("waiting", "reconnecting");
      // A refused stream is not tried again by the browser: the page is asked why, and tells.
      if (stream && stream.readyState === EventSource.CLOSED) { stop(); setTimeout(check, 5000); }
    });
  };
  const stop = () => {
    if (stream) stream.close();
    stream = null;
  };
  const end = () => {
    stop();
    state("ended", "logged out");
    announce("Your session has ended: reload to log in again.");
  };
  const check = async () => {
    try {
      const answer = await fetch(PAGE, { headers: { "Partyline-Live": "swap" }, cache: "no-store", redirect: "error" });
      if (answer.status === 401) return end();
    } catch { /* the hub is away */ }
    start();
  };
  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => { stop(); state("paused", "paused"); }, 5000);
    } else if (!stream) {
      for (const region of regions()) wanted.add(region.id); // whatever was missed
      start();
      plan();
    } else plan();
  });
  // What nobody tells of: a lag that grows, a loop that ended, a process that is gone.
  setInterval(() => {
    if (!stream) return;
    for (const region of regions()) wanted.add(region.id);
    plan();
  }, 60000);
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const region of regions()) wanted.add(region.id);
    start();
    plan();
  });
  start();
})();
