// Arrow keys, Home and End go from tab to tab, as everybody expects of something that is called a tab.
(() => {
  "use strict";
  const WAYS = { ArrowRight: (now) => now + 1, ArrowLeft: (now) => now - 1, Home: () => 0, End: () => -1 };

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("#im-tabs [role=tab]");
    const way = WAYS[event.key];
    if (!tab || !way || event.altKey || event.ctrlKey || event.metaKey) return;
    const seen = { visibilityProperty: true, opacityProperty: true };
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const shown = tabs.filter((one) => one.checkVisibility(seen));
    const next = shown.at(way(shown.indexOf(tab)) % shown.length);
    event.preventDefault();
    next.click();
    next.focus();
  });
})();
