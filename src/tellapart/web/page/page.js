"use strict";
// The page of one model. Everything that comes from the model is put in as text; nothing is asked of any other site.

const WORDS = {
  en: {
    token: "This server asks for its token.", enter: "Enter", wrong: "That is not the token.",
    ask: "Give a picture", invite: "Drop a picture here", choose: "Choose a picture", camera: "Camera",
    shoot: "Take the picture", close: "Close the camera", paste: "or paste one",
    samples: "Or try one of these", sample: "Sample: {name}",
    said: "What it says", nothing: "The answer will stand here.", busy: "Looking at it …",
    lead: "Tells {n} classes apart: {names}", finds: "Finds in a picture any of {n} classes: {names}", more: " and {n} more",
    not_one: "None of the classes", least: "from {p}", each: "A picture may have several classes, or none: each is said from "
      + "its own threshold on, the line across its bar.",
    unknown: "Unknown", like: "The picture is like none of the {n} classes. If it had to be one, it would be:",
    promise: "Of pictures of its classes, answers as sure as this one are right in at least {p} of cases.",
    unsure: "Too unsure for a promise. The probabilities are calibrated: of answers at 60 %, about 60 of 100 are right.",
    look: "Where does it look?", of: "for the class", wait: "Parts of the picture are covered, one after the other, and networks "
      + "with random numbers are asked for comparison. This takes a while …",
    means: "This map means something.", empty: "This map means nothing.",
    fall: "Without its hottest 10 %, “{name}” goes from {a} to {b}; without as much elsewhere, to {c} on average "
      + "(farther than at {beaten} of {places} other places).",
    random: "The fields themselves decide little, or networks with random numbers look at the same ones.",
    scale: ["nothing", "hottest"], outline: "The line runs around the hottest 10 %; dark: what the network does not see.",
    picture: "Your picture", heat: "Heat map of where the network looks for {name}",
    alike: "Which training pictures are most like it?", apart: "distance {d}",
    near: "By what the last layer is given: 0 is the same, 1 has nothing in common.",
    about: "About this model", network: "Network", takes: "It takes", made: "Made", learned: "Pictures",
    classes: "Classes", score: "Score", value: "Value", interval: "95 % interval", on: "{n} {part} pictures",
    test: "test", validation: "validation", train: "training", none: "No score is stored with it.",
    card: "Model card (Markdown)", promises: "Promises (of pictures of its classes)", from: "{p} right from probability {q} on",
    kept: "Nothing you give is kept or sent on.", api: "API description",
    large: "The picture has {n} MB; at most {most} MB are read.", nopicture: "That is no picture file.",
    nofile: "Only files are taken, no addresses: save the picture, and drop the file.",
    nocamera: "There is no camera, or this page may not use it.", away: "The server does not answer. Is it still running?",
    ask_again: "Enough is being asked of the server just now. Try again in a moment.",
  },
  "zh-Hans": {
    token: "请输入此服务的令牌。", enter: "进入", wrong: "令牌不对。",
    ask: "给一张图片", invite: "把图片拖到这里", choose: "选择图片", camera: "摄像头",
    shoot: "拍照", close: "关闭摄像头", paste: "或直接粘贴",
    samples: "或试试这些样例", sample: "样例：{name}",
    said: "判断结果", nothing: "结果会显示在这里。", busy: "正在看……",
    lead: "可区分 {n} 类：{names}", finds: "可在一张图片中找出 {n} 类：{names}", more: "等，另有 {n} 类",
    not_one: "不含任何一类", least: "阈值 {p}", each: "一张图片可以有多个类别，也可以没有：每一类的概率达到各自的阈值（条上的竖线）就会说出。",
    unknown: "未知", like: "这张图片不像 {n} 类中的任何一类。若一定要选，会是：",
    promise: "若图片属于这些类别，把握达到这个程度的回答至少 {p} 是对的。",
    unsure: "把握不够，不作保证。概率已经校准：概率为 60 % 的回答，100 个里约有 60 个是对的。",
    look: "它在看哪里？", of: "针对类别", wait: "正在逐块遮挡图片，并与随机权重的网络比较，需要一会儿……",
    means: "这张热图有意义。", empty: "这张热图说明不了什么。",
    fall: "去掉最热的 10 % 后，“{name}”的概率从 {a} 变为 {b}；在其他位置去掉同样大的区域，平均为 {c}（{places} 个其他位置中有 {beaten} 个影响更小）。",
    random: "这些位置本身影响不大，或者随机权重的网络也会看同样的位置。",
    scale: ["无", "最热"], outline: "线圈出最热的 10 %；暗处是网络看不到的部分。",
    picture: "你的图片", heat: "网络为“{name}”所看之处的热图",
    alike: "哪些训练图片最像它？", apart: "距离 {d}",
    near: "按最后一层的输入比较：0 为相同，1 为毫无共同之处。",
    about: "关于这个模型", network: "网络", takes: "输入", made: "制作时间", learned: "图片",
    classes: "类别", score: "指标", value: "数值", interval: "95 % 区间", on: "{n} 张{part}图片",
    test: "测试", validation: "验证", train: "训练", none: "模型里没有存成绩。",
    card: "模型卡（Markdown）", promises: "保证（限于这些类别的图片）", from: "概率不低于 {q} 时，{p} 正确",
    kept: "你给的图片不会被保存或转发。", api: "API 说明",
    large: "图片有 {n} MB；最多读 {most} MB。", nopicture: "这不是图片文件。", nofile: "只接受文件，不接受网址：请先保存图片，再拖入文件。",
    nocamera: "没有摄像头，或本页无权使用。", away: "服务没有回应。它还在运行吗？",
    ask_again: "服务现在很忙，请稍后再试。",
  },
};
const SCORES = {
  accuracy: "准确率", "top-5 accuracy": "前五准确率", "balanced accuracy": "平衡准确率", "macro precision": "宏平均精确率",
  "macro recall": "宏平均召回率", "macro F1": "宏平均 F1", "weighted F1": "加权 F1", loss: "损失", Brier: "Brier 分数",
  "mean average precision": "平均 AP（mAP）", "micro average precision": "微平均 AP", "mean ROC area": "平均 ROC 面积",
  "micro F1": "微平均 F1", "micro precision": "微平均精确率", "micro recall": "微平均召回率", "Hamming loss": "Hamming 损失",
  "exact match": "完全匹配率", "sample F1": "样本平均 F1",
  "Cohen's kappa": "Cohen κ", "macro ROC area": "宏平均 ROC 面积", "macro average precision": "宏平均 AP",
};
const TROUBLES = {
  too_many_pixels: "图片的像素太多。", too_much_memory: "解码这张图片需要太多内存。", not_a_picture: "这不是能读的图片。",
  too_slow_to_decode: "解码这张图片用时太久。", cannot_be_decoded: "这张图片无法解码。", too_many_bytes: "图片文件太大。",
  too_slow: "没有及时得到结果。", too_slow_to_send: "图片没有及时传到。", no_number: "网络对这张图片的输出不是有限的数。",
  other_origin: "请求来自别的网站。", unknown_host: "此服务不以这个名字应答。", unexpected: "出现了意外错误。",
};
const TAKEN = { grey: "灰度", "centre crop": "中心裁剪", padded: "补边", squashed: "拉伸", ", bilinear": "，双线性", ", bicubic": "，双三次",
  ", nearest": "，最近邻", ", ": "，" };
const PLAIN = ["loss", "Brier", "Cohen's kappa", "MCC"];
const $ = (id) => document.getElementById(id);
const state = { language: "en", model: null, picture: null, answer: null, heat: null, near: null, trouble: null, work: null, names: new Map() };

function say(key, values = {}) {
  return WORDS[state.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function make(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[content].flat());
  return made;
}

const foreign = (text) => make("bdi", text);
const mark = (one) => (state.language === "en" ? one : { ", ": "、", "; ": "；" }[one]);
const named = (name) => state.names.get(name) || short(name);

// A long name loses its middle, as in every figure; what is stored and sent keeps it.
function short(text, most = 80) {
  const letters = text.length > most ? [...text.slice(0, most), ...text.slice(-most)] : [];
  return letters.length > most ? letters.slice(0, most / 2).join("") + "…" + letters.slice(1 - most / 2).join("") : text;
}

// How each class is called: those that would look alike get their number in front.
function called(classes) {
  const found = classes.map((name) => short(name)), often = new Map();
  for (const name of found) often.set(name, (often.get(name) || 0) + 1);
  return new Map(classes.map((name, n) => [name, often.get(found[n]) > 1 ? n + " " + found[n] : found[n]]));
}

const percent = (share) =>
  (share > 0.9995 && share < 1 ? ">\u00a099.9" : share < 0.0005 && share > 0 ? "<\u00a00.1" : (100 * share).toFixed(1)) + "\u00a0%";

// --- language ---------------------------------------------------------------------------------------------------------

function speak(language) {
  state.language = language;
  document.documentElement.lang = language;
  try { localStorage.setItem("language", language); } catch { /* a browser may forbid it */ }
  for (const one of document.querySelectorAll("[data-words]")) one.textContent = say(one.dataset.words);
  for (const one of document.querySelectorAll("[data-language]"))
    one.setAttribute("aria-pressed", String(one.dataset.language === language));
  draw();
}

function draw() {
  showTrouble();
  if (!state.model) return;
  showModel();
  showAnswer();
  showHeat();
  showNear();
}

// --- asking the server ------------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw { words: "away" };
  }
  if (response.status === 401) { $("enter").hidden = false; $("main").hidden = true; }
  if (response.status === 429) throw { words: "ask_again" };
  if (!response.ok) throw { said: (await response.json().catch(() => ({}))).error || { code: "", message: response.status, hint: "" } };
  return response;
}

function trouble(error) {
  if (error && error.name === "AbortError") return;
  state.trouble = error && (error.words || error.said) ? error : { said: { code: "", message: String(error), hint: "" } };
  showTrouble();
}

function showTrouble() {
  const found = state.trouble;
  $("trouble").hidden = !found || (found.said && found.said.code === "token_needed");
  if (!found) return;
  const chinese = found.said && state.language !== "en" && TROUBLES[found.said.code];
  const message = found.words ? say(found.words, found.values) : chinese || found.said.message;
  const hint = found.said && !chinese ? found.said.hint : "";
  $("trouble").replaceChildren(make("strong", message), ...(hint ? [hint] : []));
}

async function begin() {
  try {
    state.model = await (await ask("/api/model")).json();
    state.names = called(state.model.classes);
    state.trouble = null;
    $("enter").hidden = true;
    $("main").hidden = false;
    goldens();
    draw();
  } catch (error) { trouble(error); }
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/api/enter", { method: "POST", headers: { Authorization: "Bearer " + $("token").value } });
    $("token").value = "";
    await begin();
    $("file").focus();
  } catch (error) {
    trouble(error.said && error.said.code === "token_needed" ? { words: "wrong" } : error);
  }
});

// --- the model --------------------------------------------------------------------------------------------------------

function goldens() {
  const list = state.model.goldens.map((one) => {
    const image = make("img", [], { src: "/api/golden?n=" + one.n, alt: "" });
    image.addEventListener("load", () => image.classList.toggle("dots", image.naturalWidth <= 96));
    const button = make("button", [image, foreign(named(one.class))], { type: "button", "data-sample": named(one.class) });
    button.addEventListener("click", async () => {
      try { await take(await (await ask("/api/golden?n=" + one.n)).blob()); } catch (error) { trouble(error); }
    });
    return make("li", button);
  });
  $("goldens").replaceChildren(...list);
  $("samples").hidden = !list.length;
}

function showModel() {
  const model = state.model, some = model.classes.slice(0, 12), rest = model.classes.length - some.length;
  document.title = short(model.name) + " · tellapart";
  $("name").firstChild.textContent = short(model.name);
  const [before, after] = say(model.thresholds.length ? "finds" : "lead", { n: model.classes.length.toLocaleString("en"), names: "\n" }).split("\n");
  const names = some.flatMap((name, n) => (n ? [mark(", "), foreign(named(name))] : [foreign(named(name))]));
  $("lead").replaceChildren(before, ...names, after + (rest ? say("more", { n: rest.toLocaleString("en") }) : ""));
  for (const one of document.querySelectorAll("[data-sample]"))
    one.setAttribute("aria-label", say("sample", { name: one.dataset.sample }));
  $("facts").replaceChildren(facts(model), scores(model), make("p", make("a", say("card"), { href: "/api/card" })));
}

function facts(model) {
  const counts = Object.entries(model.counts).filter(([, n]) => n)
    .map(([part, n]) => say("on", { n: n.toLocaleString("en"), part: WORDS[state.language][part] || part }));
  const promises = model.promises.map((one) => say("from", { p: 100 * one.precision + " %", q: percent(one.from) }));
  const rows = [
    ["network", foreign(short(model.network))], ["takes", taken(model.takes)], ["learned", counts.join(mark(", "))],
    ["promises", promises.join(mark("; "))], ["made", model.made.replace("T", " ").replace("+00:00", " UTC")],
  ];
  return make("dl", rows.filter(([, said]) => said !== "").flatMap(([key, said]) => [make("dt", say(key)), make("dd", said)]));
}

function taken(words) {
  if (state.language === "en") return words;
  return Object.entries(TAKEN).reduce((said, [from, to]) => said.replace(from, to), words);
}

function scores(model) {
  const part = model.scores.some((one) => one.part === "test") ? "test" : "validation";
  const found = model.scores.filter((one) => one.part === part && !one.about && one.value !== null);
  if (!found.length) return make("p", say("none"));
  const head = ["score", "value", "interval", "n"].map((key) => make("th", key === "n" ? "n" : say(key), { scope: "col" }));
  const rows = found.map((one) => {
    const shown = (x) => (x === null ? "–" : PLAIN.includes(one.name) ? x.toFixed(3) : (100 * x).toFixed(1) + " %");
    const name = state.language === "en" ? one.name : SCORES[one.name] || one.name;
    const cells = [shown(one.value), shown(one.low) + " – " + shown(one.high), one.n.toLocaleString("en")];
    return make("tr", [make("th", name, { scope: "row" }), ...cells.map((cell) => make("td", cell))]);
  });
  const said = say("on", { n: found[0].n.toLocaleString("en"), part: say(part) });
  const table = make("table", [make("caption", said, { class: "soft" }), make("thead", make("tr", head)), make("tbody", rows)]);
  return make("div", table, { class: "wide", role: "region", tabindex: "0", "aria-label": said });
}

// --- a picture --------------------------------------------------------------------------------------------------------

async function take(picture) {
  if (state.work) state.work.abort();
  const work = new AbortController();
  Object.assign(state, { work, picture: null, answer: null, heat: null, near: null, trouble: null });
  showTrouble();
  const { bytes } = state.model.limits;
  if (!picture) trouble({ words: "nofile" });
  else if (picture.size > bytes)
    trouble({ words: "large", values: { n: (picture.size / 1e6).toFixed(1), most: bytes / 1e6 } });
  else if (picture.type && !picture.type.startsWith("image/")) trouble({ words: "nopicture" });
  else {
    state.picture = picture;
    await predict(picture, work);
  }
  draw();
  if (state.picture && matchMedia("(max-width: 44rem)").matches) $("answer").scrollIntoView({ block: "nearest" });
}

async function predict(picture, work) {
  preview(picture);
  $("answer").setAttribute("aria-busy", "true");
  $("answer").replaceChildren(make("p", say("busy"), { class: "soft" }));
  $("looking").hidden = true;
  try {
    const every = state.model.thresholds.length ? "?top=" + state.model.limits.top : "";
    state.answer = await (await ask("/api/predict" + every, sent(picture, work))).json();
  } catch (error) {
    trouble(error);
  } finally {
    if (state.work === work) $("answer").setAttribute("aria-busy", "false");
  }
}

const sent = (picture, work) =>
  ({ method: "POST", body: picture, signal: work.signal, headers: { "Content-Type": "application/octet-stream" } });

function preview(picture) {
  const image = $("preview");
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(picture);
  image.onload = () => image.classList.toggle("dots", Math.max(image.naturalWidth, image.naturalHeight) <= 96);
  image.onerror = () => { image.hidden = true; $("invite").hidden = false; };
  image.hidden = false;
  $("invite").hidden = true;
  $("drop").classList.add("full");
}

function showAnswer() {
  $("preview").alt = say("picture");
  $("video").setAttribute("aria-label", say("camera"));
  $("looking").hidden = !state.answer;
  if (!state.answer) {
    if ($("answer").getAttribute("aria-busy") !== "true")
      $("answer").replaceChildren(make("p", say("nothing"), { class: "soft" }));
    return;
  }
  const said = state.answer;
  const [headline, below] = said.said ? several(said) : one(said);
  $("answer").replaceChildren(make("p", headline, { class: "headline" }), make("p", below, { class: "soft" }), bars(said));
  const chosen = $("of").value, first = String(said.top[0].index);
  const options = said.top.map((one) => make("option", named(one.class), { value: one.index }));
  $("of").replaceChildren(...options);
  $("of").value = said.top.some((one) => String(one.index) === chosen) && state.heat ? chosen : first;
}

function one(said) {
  const n = state.model.classes.length;
  if (said.unknown) return [say("unknown"), say("like", { n })];
  const below = said.promise ? say("promise", { p: 100 * said.promise + " %" }) : say("unsure");
  return [[foreign(named(said.answer)), " ", make("small", percent(said.top[0].probability))], below];
}

function several(said) {
  const between = state.language === "en" ? ", " : "、";
  const names = said.said.flatMap((name, n) => (n ? [between, foreign(named(name))] : [foreign(named(name))]));
  return [names.length ? names : say("not_one"), say("each")];
}

function bars(said) {
  const rows = said.top.map((one) => {
    const bar = make("b"), line = make("s"), least = state.model.thresholds[one.index];
    bar.style.width = 100 * one.probability + "%";
    line.style.left = 100 * least + "%";
    const from = said.said ? [make("small", say("least", { p: percent(least) }))] : [];
    const track = make("i", said.said ? [bar, line] : bar, { "aria-hidden": "true" });
    const over = said.said ? said.said.includes(one.class) : !said.unknown;
    const cells = [foreign(named(one.class)), ...from, make("span", percent(one.probability)), track];
    return make("li", cells, over ? {} : { class: "faint" });
  });
  return make("ol", rows, { class: said.said ? "bars several" : "bars", role: "list" });
}

// --- where it looks ---------------------------------------------------------------------------------------------------

async function slowly(button, name, path, words, show) {
  const { picture, work } = state;
  if ($(button).getAttribute("aria-disabled") === "true") return;
  $(button).setAttribute("aria-disabled", "true");  // not disabled: it would lose the keyboard
  $(name).setAttribute("aria-busy", "true");
  $(name).replaceChildren(make("p", say(words), { class: "soft" }));
  state[name] = null;
  try {
    const found = await (await ask(path, sent(picture, work))).json();
    if (state.picture === picture) state[name] = found;
  } catch (error) {
    trouble(error);
  } finally {
    $(button).setAttribute("aria-disabled", "false");
    $(name).setAttribute("aria-busy", "false");
    show();
  }
}

$("look").addEventListener("click", () =>
  slowly("look", "heat", "/api/heat?index=" + $("of").value, "wait", showHeat));
$("alike").addEventListener("click", () => slowly("alike", "near", "/api/nearest", "busy", showNear));

function showNear() {
  $("alike").hidden = !state.model.nearest;
  if (!state.near) {
    if ($("near").getAttribute("aria-busy") !== "true") $("near").replaceChildren();
    return;
  }
  const found = state.near.nearest.map((one) => {
    const distance = make("small", say("apart", { d: one.distance.toFixed(3) }));
    return make("li", [make("img", [], { src: one.picture, alt: "" }), foreign(named(one.class)), distance]);
  });
  $("near").replaceChildren(make("ul", found, { role: "list" }), make("p", say("near"), { class: "soft" }));
}

function showHeat() {
  const heat = state.heat;
  if (!heat) {
    if ($("heat").getAttribute("aria-busy") !== "true") $("heat").replaceChildren();
    return;
  }
  const [none, hottest] = WORDS[state.language].scale;
  const values = {
    name: named(heat.class), a: percent(heat.probability), b: percent(heat.without_hottest), c: percent(heat.without_elsewhere),
    beaten: heat.beaten, places: heat.places,
  };
  const verdict = make("strong", say(heat.informative ? "means" : "empty"));
  const said = [verdict, " " + (heat.informative ? "" : say("random") + " ") + say("fall", values)];
  $("heat").replaceChildren(make("figure", [
    make("img", [], { src: heat.picture, alt: say("heat", { name: named(heat.class) }) }),
    make("figcaption", [
      make("div", [none, " ", make("i", [], { "aria-hidden": "true" }), " ", hottest], { class: "scale" }),
      make("p", say("outline"), { class: "soft" }), make("p", said),
    ]),
  ]));
}

// --- ways in: choose, drop, paste, camera -----------------------------------------------------------------------------

$("file").addEventListener("change", () => {
  if ($("file").files[0]) take($("file").files[0]);
  $("file").value = "";
});
$("drop").addEventListener("click", () => { if (!$("video").srcObject) $("file").click(); });
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (state.model) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = event.clipboardData && event.clipboardData.files[0];
  if (state.model && file) take(file);
});

function film(on) {
  for (const [id, shown] of [["video", on], ["shoot", on], ["close", on], ["camera", !on]]) $(id).hidden = !shown;
  $("invite").hidden = on || !$("preview").hidden;
  if (on) $("preview").hidden = true;
}

function stop() {
  const held = [$("shoot"), $("close"), document.body].includes(document.activeElement);
  for (const track of $("video").srcObject ? $("video").srcObject.getTracks() : []) track.stop();
  $("video").srcObject = null;
  film(false);
  if (held) $("camera").focus();  // what had the keyboard is hidden now
}

$("camera").addEventListener("click", async () => {
  const video = $("video");
  if ($("camera").getAttribute("aria-disabled") === "true") return;  // one stream, however often it is pressed
  $("camera").setAttribute("aria-disabled", "true");  // not disabled, as above
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch { return trouble({ words: "nocamera" }); } finally { $("camera").setAttribute("aria-disabled", "false"); }
  $("shoot").disabled = true;  // until there is a frame to take
  if (state.work) state.work.abort();
  Object.assign(state, { picture: null, answer: null, heat: null, near: null, trouble: null });  // of a picture that is not shown any more
  film(true);
  draw();
  try {
    await video.play();
    $("shoot").disabled = false;
    $("shoot").focus();
  } catch { if (video.srcObject) { stop(); trouble({ words: "nocamera" }); } }  // without one it was closed meanwhile
});
$("close").addEventListener("click", stop);
$("shoot").addEventListener("click", () => {
  const video = $("video"), canvas = make("canvas");
  Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  stop();
  canvas.toBlob((blob) => blob && take(blob), "image/png");
});

for (const one of document.querySelectorAll("[data-language]"))
  one.addEventListener("click", () => speak(one.dataset.language));
let kept = "";
try { kept = localStorage.getItem("language") || ""; } catch { /* as above */ }
speak(kept in WORDS ? kept : navigator.language.startsWith("zh") ? "zh-Hans" : "en");
begin();
