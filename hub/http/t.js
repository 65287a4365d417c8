// Partyline's tracker: docs/tracker.md
(() => {
  const MODE = "required"; // the hub writes its own setting here
  const SESSION = "hub.session"; // in the site's storage: its id, and when it was last used
  const IDLE = 30 * 60e3; // ms a session lasts unused
  const WAITING = 50; // events kept while they cannot be sent
  const BATCH = 10; // of them in a request: 64 kB may be in flight while a page closes

  const script = document.currentScript;
  const early = window.hub; // an array of calls made before this ran
  if (!script || early?.identify) return; // inlined, or loaded twice
  const collector = new URL("/collect", script.src).href;
  const started = performance.now();

  let answer = /^(granted|denied)$/.exec(script.dataset.consent)?.[0] || "unset";
  const consent = () => (navigator.globalPrivacyControl ? "denied" : answer);
  // Views wait for the answer, so that each is told once.
  const isAsking = () => consent() === "unset" && MODE === "required";
  const isTracked = () => consent() !== "denied" && !isAsking();

  // A foreign link host's key: out of the address before anybody copies it.
  const KEY = /[#&]_hk=([\w-]{22})$/;
  let key = KEY.exec(location.hash)?.[1];
  if (key) history.replaceState(history.state, "", location.href.replace(KEY, ""));

  let session;
  const inStorage = (use) => {
    try {
      return use(localStorage);
    } catch {} // this site may not
  };
  function useSession() {
    const now = Date.now();
    const kept = (isTracked() && inStorage((storage) => storage[SESSION])) || session;
    const [, id, used] = /^([\w-]{22})(\d+)$/.exec(kept) || [];
    session = (now - used < IDLE ? id : crypto.randomUUID().replace(/-/g, "").slice(0, 22)) + now;
    if (isTracked()) inStorage((storage) => (storage[SESSION] = session));
    return session.slice(0, 22);
  }
  function endSession() {
    session = "";
    inStorage((storage) => storage.removeItem(SESSION));
  }

  // One request at a time: a browser without a cookie gets one, not two.
  let queue = [];
  let isBusy, isWell, timer;
  let failures = 0;

  const isLasting = (one) => one.event.type !== "handle"; // which is of no use later

  function add(event, at, question) {
    queue.push({ event, at, question });
    if (queue.length > WAITING) queue.splice(1, 1)[0].question?.reject(Error("hub: full")); // not the load
    send();
  }

  function take() {
    const ready = queue.filter((one) => one.question || !isAsking());
    const first = ready.findIndex((one) => one.question);
    const batch = ready.slice(0, first < 0 ? BATCH : Math.min(first, BATCH) || 1);
    for (const one of batch) queue.splice(queue.indexOf(one), 1);
    return batch;
  }

  const write = (batch) =>
    JSON.stringify({
      session: useSession(),
      consent: consent(),
      key: isTracked() && batch.some((one) => one.event.kind === "load") ? key : undefined,
      events: batch.map((one) => ({ ...one.event, age: Math.round(performance.now() - one.at) })),
    });

  const post = async (body) =>
    fetch(collector, {
      method: "POST",
      body, // text/plain, which needs no preflight
      keepalive: true,
      credentials: isTracked() ? "include" : "omit",
      signal: AbortSignal.timeout(30e3),
    });

  async function send() {
    if (isBusy || timer) return;
    const batch = take();
    if (!batch[0]) return;
    const [{ event, question }] = batch;
    isBusy = true;
    try {
      const response = await post(write(batch));
      if (response.status === 429 || response.status > 499) throw Error("hub: " + response.status);
      isWell = true;
      failures = 0;
      if (event.type === "reset") endSession();
      if (question) {
        const said = await response.json().catch(() => ({})); // 204 has none
        response.ok ? question.resolve(said.handle) : question.reject(Object.assign(Error("hub: " + said.detail), said));
      }
    } catch (error) {
      queue.unshift(...batch);
      for (const one of queue) one.question?.reject(error); // told now, tried again
      queue = queue.filter(isLasting);
      isWell = false;
      timer = setTimeout(retry, 1e3 * Math.min(600, 2 ** ++failures));
    }
    isBusy = false;
    send();
  }

  function retry() {
    clearTimeout(timer);
    timer = 0;
    send();
  }

  function ask(type, fields) {
    const promise = new Promise((resolve, reject) => {
      add({ ...JSON.parse(JSON.stringify(fields || {})), type }, performance.now(), { resolve, reject });
      retry();
    });
    promise.catch(() => {}); // no unhandled rejection
    return promise;
  }

  // Beacons carry cookies: without consent it is a fetch.
  function leave() {
    const events = queue.splice(0).filter(isLasting);
    while (events[0]) {
      const body = write(events.splice(0, BATCH));
      (isTracked() && navigator.sendBeacon?.(collector, body)) || post(body).catch(() => {});
    }
  }

  let url;
  let shown; // since when; undefined once engaged
  const address = () => location.href.replace(/#(?![/!]).*/, "").slice(0, 2000); // routers' fragments only

  function view(kind, at = performance.now()) {
    const referrer = { load: document.referrer, route: url }[kind]?.slice(0, 2000);
    url = address();
    shown = performance.now();
    add({ type: "page", kind, url, title: document.title.slice(0, 300), referrer }, at);
  }

  // Later: by then a router has redirected, and set the title.
  const route = () => setTimeout(() => address() === url || view("route"));

  function engage(event) {
    if (!event.isTrusted || document.hidden || !(performance.now() - shown > 999)) return;
    shown = undefined;
    add({ type: "engaged", url }, performance.now());
  }

  function start() {
    view("load", started);
    if (window.navigation) navigation.addEventListener("currententrychange", route);
    else {
      addEventListener("popstate", route);
      for (const name of ["pushState", "replaceState"]) {
        const original = history[name];
        history[name] = function () {
          route();
          return original.apply(this, arguments);
        };
      }
    }
    addEventListener("pageshow", (event) => event.persisted && view("restore"));
    addEventListener("pagehide", leave);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) shown &&= performance.now();
      else if (isWell && !isAsking() && !queue.some((one) => one.question)) leave();
    });
    for (const name of ["pointerup", "keydown"]) addEventListener(name, engage, true); // not the start of a scroll
  }

  function settle() {
    if (isTracked() || isAsking()) return;
    key = "";
    endSession();
  }

  const hub = (window.hub = {
    page: () => view("route"),
    identify: (fields) => ask("identify", fields),
    handle: () => ask("handle"),
    reset: () => ask("reset"),
    consent(isGiven) {
      const before = consent();
      answer = isGiven ? "granted" : "denied";
      if (consent() !== before) session = ""; // none spans an answer
      settle();
      send();
    },
    push: ([name, ...rest]) => hub[name](...rest),
  });
  settle();
  try {
    early.forEach((call) => hub.push(call));
  } catch {} // there were none
  const until = document.prerendering
    ? "prerenderingchange"
    : document.readyState === "loading" && !document.title && "DOMContentLoaded";
  if (until) document.addEventListener(until, start, { once: true });
  else start();
})();
