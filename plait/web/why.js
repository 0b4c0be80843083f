// Why: what an answer hangs on. Heat over the question; a click hides a word, a piece of a picture or of sound, and the model answers anew.

import { send } from "./api.js";
import { Composer } from "./compose.js";
import { el } from "./dom.js";
import { Heat } from "./heat.js";
import { layersOf } from "./layers.js";
import { shown } from "./media.js";
import { inWords, t } from "./words.js";

const METHODS = ["masking", "shapley", "relevance", "gradient", "attention-gradient", "rollout", "attention"];

const rounded = (score) => score.toFixed(2).replace(/^-(?=0\.00$)/, ""); // no -0.00

export class Why {
  constructor(place, models, modalities) {
    Object.assign(this, { place, models, modalities });
  }

  async show() {
    const choice = (label, options) => el("select", { "aria-label": label }, options.map(([value, text]) => el("option", { value }, text)));
    const labelled = (select) => el("label", { className: "row small soft" }, select.getAttribute("aria-label"), select);
    const kinds = (model) => { // words first: they are answered and explained in seconds
      const { output_modalities: writes } = model.architecture;
      return [...writes.filter((name) => name === "text"), ...writes.filter((name) => name !== "text")].map((name) => [name, t(name)]);
    };
    this.model = choice(t("serves"), this.models.map(({ id }) => [id, id]));
    this.kind = choice(t("answerIn"), kinds(this.models[0]));
    this.model.addEventListener("change", () => this.kind.replaceChildren(...kinds(this.models.find(({ id }) => id === this.model.value)).map(([value, text]) => el("option", { value }, text))));
    this.of = choice(t("explained"), [["answer", t("wholeAnswerExplained")], ["token", t("eachToken")], ["layers", t("eachLayer")]]);
    this.method = choice(t("method"), METHODS.map((name) => [name, name]));
    this.of.addEventListener("change", () => { this.method.disabled = this.of.value === "layers"; });
    this.composer = new Composer(this.modalities, (content) => this.ask(content), t("askWhy"));
    this.heat = el("div", { className: "heat" });
    this.without = el("section", { className: "heat-without", "aria-live": "polite" });
    this.otherwise = new Composer(this.modalities, (content) => this.patch(content), t("askOtherwise"), t("otherQuestion"));
    this.patched = el("div", { className: "patched" });
    this.counterfactual = el("details", { hidden: true }, el("summary", {}, t("patchTitle")), el("p", { className: "small soft" }, t("patchHelp")),
      this.otherwise.element, this.patched);
    this.place.replaceChildren(el("div", { className: "page" }, el("h2", {}, t("whyTitle")), el("p", { className: "soft" }, t("whyHelp")),
      el("div", { className: "row" }, [this.model, this.kind, this.of, this.method].map(labelled)), this.composer.element, this.heat, this.without, this.counterfactual));
  }

  get isBegun() {
    return this.composer.isBegun || Boolean(this.explained);
  }

  async ask(content) {
    const asked = (this.latest = this.latestHide = this.latestPatch = {});
    this.heat.replaceChildren(el("p", { className: "soft", role: "status" }, t("explaining")));
    this.without.replaceChildren();
    this.patched.replaceChildren();
    this.counterfactual.hidden = true;
    const isLens = this.of.value === "layers";
    let explained;
    try {
      explained = await send("POST", "/v1/explanations", { model: this.model.value, messages: [{ role: "user", content }], modalities: [this.kind.value],
        explain: { of: this.of.value, methods: isLens ? [] : [this.method.value] }, view: isLens });
    } catch (error) {
      this.heat.replaceChildren();
      throw error;
    }
    if (asked !== this.latest) return; // another question came
    if (isLens) {
      this.heat.replaceChildren(...layersOf(explained.view));
      return;
    }
    this.explained = explained;
    this.counterfactual.hidden = false;
    const words = { user: t("you"), assistant: this.explained.model, method: t("method"), curves: t("curves"), deletion: t("deletion"), insertion: t("insertion") };
    this.view = new Heat(this.heat, this.explained.explanations, { words, hide: (units) => this.hideUnits(units),
      sentence: (outcome, figures, otherwise) => inWords(`outcome ${outcome}`, figures, otherwise) });
  }

  async patch(content) {
    const asked = (this.latestPatch = {}), { id } = this.explained;
    this.patched.replaceChildren(el("p", { className: "soft", role: "status" }, t("explaining")));
    try {
      const { view } = await send("POST", `/v1/explanations/${id}/patched`, { counterfactual: content, view: true });
      if (asked === this.latestPatch) this.patched.replaceChildren(...layersOf(view));
    } catch (error) {
      if (asked !== this.latestPatch) return;
      this.patched.replaceChildren();
      throw error;
    }
  }

  async hideUnits(hidden) {
    const asked = (this.latestHide = {}), target = this.view.target;
    this.without.replaceChildren(el("p", { className: "soft" }, t("askingAgain")));
    try {
      const { scores: [before, after], message } = await send("POST", `/v1/explanations/${this.explained.id}/without`, { hidden, target });
      if (asked !== this.latestHide) return; // another click came
      const { content, audio } = message ?? {};
      const parts = typeof content === "string" ? (content ? [{ type: "text", text: content }] : []) : content ?? [];
      if (audio) parts.push({ type: "input_audio", input_audio: { data: audio.data, format: "wav" } });
      this.without.replaceChildren(el("h3", {}, t("withoutThem")), ...(message ? [el("div", { className: "bubble wide" }, parts.map((part) => shown(part, true)))] : []),
        el("p", { className: "small soft", "data-scores": `${before} ${after}` }, `${t("scoreBefore")}: ${rounded(before)} → ${rounded(after)}`));
      this.without.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (asked === this.latestHide) this.without.replaceChildren(el("p", { role: "alert", className: "bad" }, error.message));
    }
  }
}
