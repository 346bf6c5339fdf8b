// Fetches the page again now and then, and says what changed; without it, "Look again" does the same.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh) || 30;
  const news = document.getElementById("news");
  const words = (root) => root.getElementById("summary")?.textContent.replace(/\s+/g, " ").trim();

  const look = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const before = words(document), after = words(page);
    const old = document.getElementById("main"), fresh = page.getElementById("main");
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const href = focused?.getAttribute("href");
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    if (!fresh || (focused && !href) || getSelection().toString()) return; // somebody is at work in it
    old.replaceChildren(...fresh.childNodes);
    old.querySelectorAll("details").forEach((one, place) => { one.open = open[place] ?? false; });
    if (href) [...old.querySelectorAll("a")].find((one) => one.getAttribute("href") === href)?.focus();
    if (before !== after) news.textContent = after;
  };

  const again = () => look()
    .then(() => { document.body.classList.remove("offline"); })
    .catch(() => {
      if (!document.body.classList.contains("offline")) news.textContent = "The control plane does not answer; this page is old.";
      document.body.classList.add("offline");
    })
    .finally(() => setTimeout(again, seconds * 1000));
  setTimeout(again, seconds * 1000);
})();
