// What the shop's pages do: routes without loading, the consent banner, the popup, checkout, login and logout.
// `hub` is the tracker. Every use of it is allowed to fail: a shop sells without it, too.
"use strict";

const main = document.getElementById("main");

// Routes: pots are shown without loading a page. The tracker sees the address change by itself.
async function show(url, isNew) {
  const answer = await fetch(url);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (isNew) history.pushState(null, "", url);
  main.replaceChildren(...page.getElementById("main").childNodes);
  document.title = page.title;
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-route]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  show(link.href, true).catch(() => location.assign(link.href));
});
addEventListener("popstate", () => {
  if (!location.hash) show(location.href).catch(() => location.reload());
});

// Consent: the shop asks, keeps the answer in a cookie of its own, and tells the tracker. Later pages have it in the tag.
const banner = document.getElementById("banner");
for (const button of banner.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `consent=${button.dataset.answer}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    window.hub?.consent(button.dataset.answer === "granted");
    banner.hidden = true;
    main.focus({ preventScroll: true });
  });
}
document.getElementById("choices").addEventListener("click", () => {
  banner.hidden = false;
  banner.querySelector("button").focus();
});

// The popup asks for a number only. What a browser says by itself counts as declared: the hub asks before it writes.
const popup = document.getElementById("popup");
const fault = document.getElementById("popup-fault");
document.addEventListener("click", (event) => {
  if (event.target.closest("#offer")) popup.showModal();
});
document.getElementById("popup-close").addEventListener("click", () => popup.close());
document.getElementById("texts").addEventListener("submit", async (event) => {
  event.preventDefault();
  fault.textContent = "";
  try {
    await window.hub?.identify({ phone: event.target.phone.value, consents: ["sms"] });
    popup.close();
  } catch (error) {
    const said = error.errors?.find((one) => one.pointer === "/phone")?.detail;
    fault.textContent = said ? `This ${said}.` : "That did not work. Please try again later.";
  }
});

// At most so long, whatever the network does.
const soon = (promise, ms = 1500) => Promise.race([promise, new Promise((done) => setTimeout(done, ms))]);

// An order takes the handle along, so that the backend can say whose browser this is.
document.addEventListener("submit", async (event) => {
  if (!event.target.matches("[data-handle]")) return;
  event.preventDefault();
  event.target.handle.value = (await soon(window.hub?.handle()).catch(() => "")) || "";
  event.target.submit();
});

// Logged in: the backend signs who it is, the tracker passes it on.
if (document.querySelector("[data-sign]")) sign().catch(() => {});
async function sign() {
  const handle = await window.hub?.handle();
  if (!handle) return; // not tracked
  const answer = await fetch("/account/signature", { method: "POST", body: new URLSearchParams({ handle }) });
  if (answer.ok) await hub.identify(await answer.json());
}

// Logged out: whoever is next at this browser is somebody else.
document.getElementById("logout")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  await soon(window.hub?.reset()).catch(() => {});
  event.target.submit();
});
