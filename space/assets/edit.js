// The Edit tab: a piece before and after, and the way from one edit to the next.
(() => {
  "use strict";
  const Intermezzo = (window.Intermezzo = window.Intermezzo || {});
  const sheets = () => ["im-edit-before", "im-edit-after"].map((id) => Intermezzo.sheet(id));

  // What is not named stays as it is; a piece that stands there already is not engraved again.
  Intermezzo.edited = (payload) => {
    const told = JSON.parse(payload || "{}");
    const [before, after] = sheets();
    const name = told.name || "piece";
    if ("before" in told && told.before !== before.text) before.show(told.before, told.doubtful || [], name);
    if ("after" in told) after.show(told.after, told.changed || [], `${name}-edited`);
    // On a phone the answer lies below what was asked.
    const news = document.getElementById("im-edit-news");
    if (told.before && news.getBoundingClientRect().top > 0.8 * window.innerHeight) {
      news.scrollIntoView({ behavior: "smooth", block: "start" });
    }
  };

  // What came out, changed by hand or not, becomes what is edited next.
  Intermezzo.editOn = (text) => {
    const [before, after] = sheets();
    const next = after.text;
    if (!next) return text;
    before.show(next, [], after.name);
    after.show("");
    return next;
  };
})();
