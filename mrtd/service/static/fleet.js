// Fetches the page again now and then, and says what changed; without it, "Look again" does that.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh) || 30;
  const news = document.getElementById("news");
  const words = (root) => {
    const summary = root.getElementById("summary")?.cloneNode(true);
    summary?.querySelectorAll("[aria-hidden]").forEach((sign) => sign.remove());
    return summary?.textContent.replace(/\s+/g, " ").trim() ?? "";
  };
  let said = words(document), timer;

  const look = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const old = document.getElementById("main"), fresh = page.getElementById("main");
    const within = old !== document.activeElement && old.contains(document.activeElement);
    const focused = within ? document.activeElement : null;
    const href = focused?.getAttribute("href");
    if (!fresh || (focused && !href) || getSelection().toString()) return; // somebody is at work
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    old.replaceChildren(...fresh.childNodes);
    old.querySelectorAll("details").forEach((one, place) => { one.open = open[place] ?? false; });
    if (href) [...old.querySelectorAll("a")].find((a) => a.getAttribute("href") === href)?.focus();
    if (words(document) !== said) news.textContent = said = words(document);
  };

  const again = () => {
    clearTimeout(timer);
    look()
      .then(() => document.body.classList.remove("offline"))
      .catch(() => {
        document.body.classList.add("offline");
        news.textContent = "The control plane does not answer; this page is old.";
      })
      .finally(() => { timer = setTimeout(again, seconds * 1000); });
  };
  timer = setTimeout(again, seconds * 1000);
  document.addEventListener("visibilitychange", again);
})();
