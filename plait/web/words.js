// What the pages say, in English and Chinese.

const WORDS = {
  en: {
    skip: "Skip to the conversation", language: "Language", talk: "Talk", model: "Model", keyTitle: "This server asks for a key",
    keyLabel: "Key", use: "Use it", newTalk: "New conversation", search: "Search", conversations: "Conversations",
    rename: "Rename", remove: "Delete", removeSure: "Delete this conversation for good?", exportRows: "Rows for training", exportPage: "Page",
    untitled: "Untitled", message: "Message", ask: "Ask something, or drop a picture or a sound", send: "Send", stop: "Stop",
    attach: "Attach a file", camera: "Take a picture", record: "Record sound", recording: "Stop recording", retry: "Try again",
    edit: "Edit", copy: "Copy", answerIn: "Answer in", auto: "as the model likes", settings: "Settings", seed: "Seed",
    temperature: "Temperature", guidance: "Guidance", tokens: "Longest answer", serves: "Model", you: "You", menu: "Conversations",
    discard: "Take away", stopped: "stopped", tooLong: "cut off at its limit", noMicrophone: "The microphone cannot be used: ", notRead: "No model here reads ",
    hello: "One small model reads and writes, sees and hears.", cannot: "It has not learned to write: ", picture: "picture",
    example1: "What is the capital of France?", example2: "Tell me a fact about otters.", example3: "Write a short poem about rain.",
    grid: "Grid", compare: "Compare", gridTitle: "What goes in, what comes out", gridHelp: "Each cell shows what was measured on held-out rows. Choose one, and try it.",
    notMeasured: "not measured here", notLearned: "not learned yet", try: "Try it", task: "task", split: "split", metric: "metric", value: "value", interval: "95 %",
    baseline: "baseline", rows: "rows", firstIn: "first after", tokensUnit: "tokens", compareTitle: "Two answers, one question",
    compareHelp: "Which model wrote which is shown after you chose. Choices are kept as rows for preference training.", askBoth: "Ask both", betterA: "A is better", betterB: "B is better",
    equal: "No difference", notKept: "This server keeps no choices.", noKey: "No key was given: reload the page to give one.", wrongKey: "The server does not know this key.", brokenPicture: "this picture cannot be read.", broken: "The connection broke before the answer was whole.", answered: "Answered", rate: "tokens/s", more: "more", modelTitle: "Models that are served here", parameters: "Parameters", context: "Longest sequence, tokens",
    reads: "Reads", writes: "Writes", base: "Stands on", live: "Right now", outstanding: "Requests under way", waiting: "Waiting",
    requests: "Requests", perSecond: "Tokens a second", firstWords: "First words, median", wholeAnswer: "Whole answer, median",
    why: "Why", whyTitle: "What an answer hangs on", whyHelp: "Red speaks for the answer, blue against it. Choose a word, or a piece of a picture or of sound, to hide it: the model answers again without it.",
    explained: "What is explained", wholeAnswerExplained: "the whole answer", eachToken: "each token by itself", method: "Method", askWhy: "Ask, and explain", explaining: "Explaining…", askingAgain: "Asking again…",
    curves: "deletion and insertion", deletion: "hidden, the most important first", insertion: "shown, the most important first", withoutThem: "The answer without it", eachLayer: "layer by layer", askOtherwise: "Patch it", otherQuestion: "The other question", layersColumn: "layers", patchTitle: "Where in the layers is it?",
    patchHelp: "Give other words of as many tokens, or another picture or clip of the same size, in the place of the question's. The model reads that, but takes over some states from the question: the more of its first answer comes back, the more of it they carry.", scoreBefore: "How well the model does the first answer",
    work: "Label", review: "Review", overview: "Overview", skipWork: "Skip to the item", nameTitle: "What is your name?", nameHelp: "Your answers are kept under it.", nameLabel: "Name", changeName: "Another name", leaveSure: "What was begun here will be lost. Go on?", nothingAsked: "Nothing is asked yet.", keep: "Keep it",
    leftBetter: "The left one is better", rightBetter: "The right one is better", guessed: "a guess", guessesOf: "Guesses of", textKeys: "Enter keeps it, Shift Enter begins a line, Ctrl Space plays and pauses.",
    boxKeys: "Draw with the pointer, or press N for a new box and move it with the arrows (Shift: its size). B chooses the next box, Delete takes it out, numbers choose what it is, Enter keeps it.", boxes: "Boxes", boxesOnPicture: "Boxes on the picture",
    nothingLeft: "Nothing is left for you here. Thank you.", complete: "Complete", yours: "yours", skipItem: "Pass over", undo: "Undo", notSaved: "Not kept.", cannotShow: "This cannot be shown; pass it over.", disputed: "People disagree", decided: "Decided.", passedOver: "passed over",
    alpha: "Agreement (Krippendorff's alpha)", answersColumn: "Answers", goldColumn: "Known items right", secondsColumn: "Seconds an answer", skillColumn: "Skill (Dawid-Skene)",
    give: "Give", mine: "Yours", consent: "Consent", agree: "I agree to what is ticked", nameHelpCollect: "What you give is kept under it, and handed on without it.", agreeTitle: "Before you give anything", version: "Version",
    needed: "Without the first purpose nothing can be kept: give nothing, or tick it.", nothingToGive: "Nothing is wanted of you any more. Thank you. You may review what others gave.", nothingToReview: "There is nothing to review now.", nothingMade: "There is nothing yet.", thanks: "Kept. Thank you.",
    another: "Another one", good: "It will do", notGood: "It will not do", back: "Take it back", backAll: "Take everything back", backSure: "Take this back for good?", backAllSure: "Take everything back for good, and your consent?", gone: "items are gone.", notCleared: "Some copies could not be cleared. Whoever runs this page sees which, and has to clear them.", accepted: "accepted", rejected: "not accepted", open: "not reviewed yet",
    yourText: "Your text", drawHere: "Draw here", clear: "Clear", chooseFile: "Choose a file", level: "Level", recordAgain: "Record again", tooLoud: "too loud", tooQuiet: "too quiet", tooShort: "too short",
    api: "Use it from a program", seconds: "s", image: "picture", audio: "sound", text: "words", none: "-",
  },
  zh: {
    skip: "跳到对话", language: "语言", talk: "对话", model: "模型", keyTitle: "此服务器需要密钥", keyLabel: "密钥", use: "使用",
    newTalk: "新对话", search: "搜索", conversations: "对话列表", rename: "重命名", remove: "删除", removeSure: "永久删除此对话？",
    exportRows: "训练数据行", exportPage: "网页", untitled: "未命名", message: "消息", ask: "提问，或拖入图片、声音", send: "发送",
    stop: "停止", attach: "添加文件", camera: "拍照", record: "录音", recording: "停止录音", retry: "重试", edit: "编辑", copy: "复制",
    answerIn: "回答形式", auto: "由模型决定", settings: "设置", seed: "随机种子", temperature: "温度", guidance: "引导强度",
    tokens: "最长回答", serves: "模型", you: "你", menu: "对话列表", discard: "移除", stopped: "已停止", tooLong: "达到长度上限",
    noMicrophone: "无法使用麦克风：", notRead: "这里没有模型能读：", hello: "一个小模型，能读写，能看，能听。", cannot: "它尚未学会输出：",
    picture: "图片", example1: "What is the capital of France?", example2: "Tell me a fact about otters.",
    example3: "Write a short poem about rain.", grid: "九宫格", compare: "比较", gridTitle: "输入与输出", gridHelp: "每一格显示在留出数据上的测量结果。选一格试试。", notMeasured: "此处未测量",
    notLearned: "尚未学会", try: "试一试", task: "任务", split: "划分", metric: "指标", value: "数值", interval: "95 %", baseline: "基线", rows: "行数", firstIn: "首个输出",
    tokensUnit: "词元", compareTitle: "同一问题，两个回答", compareHelp: "选择之后才显示各自的模型。选择会存为偏好训练的数据行。", askBoth: "同时提问", betterA: "A 更好",
    betterB: "B 更好", equal: "差不多", notKept: "此服务器不保存选择。", noKey: "未提供密钥：请刷新页面后输入。", wrongKey: "服务器不认识此密钥。", brokenPicture: "无法读取此图片。", broken: "回答尚未完成，连接已中断。", answered: "已回答", rate: "词元/秒", more: "更多", modelTitle: "此处提供的模型", parameters: "参数量",
    context: "最长序列（词元）", reads: "可读", writes: "可写", base: "基座", live: "实时", outstanding: "进行中的请求", waiting: "等待中",
    requests: "请求数", perSecond: "每秒词元", firstWords: "首字时间（中位数）", wholeAnswer: "完整回答（中位数）", api: "在程序中使用",
    why: "为何", whyTitle: "回答取决于什么", whyHelp: "红色支持该回答，蓝色反对。点击一个词、图片或声音的一块，把它隐藏，模型会重新回答。", explained: "解释什么", wholeAnswerExplained: "整个回答", eachToken: "逐个词元", method: "方法",
    askWhy: "提问并解释", explaining: "正在解释…", askingAgain: "正在重新提问…", curves: "删除与插入", deletion: "隐藏，最重要者先", insertion: "显示，最重要者先", withoutThem: "没有它时的回答", eachLayer: "逐层", askOtherwise: "替换并比较", otherQuestion: "另一个问题", layersColumn: "层", patchTitle: "它在哪一层？",
    patchHelp: "给出词元数相同的另一段文字，或大小相同的图片、长度相同的声音，替换问题中的对应部分。模型读新的问题，但沿用原问题的部分状态：原回答恢复得越多，这些状态承载的就越多。", scoreBefore: "模型给出第一个回答的得分",
    "title ids": "各层如何理解这个回答", "title flow": "各层如何理解这个回答", "title patched": "答案在哪里", "title untelling": "答案在哪里",
    "caption ids": "每格是模型若止于该层时最可能的词元，越红概率越高；粗体表示与实际输出相同。将指针移到格上可看其余候选。",
    "caption flow": "预测的词元与数据的距离（均方根），越红越接近最好；下面是各层从加噪后的残留中预测出的回答。",
    "caption patched": "模型读另一个问题，但在某层之后，这些词元的状态取自原问题：恢复了两个得分之差的多少，越红越多。沿一列向下看：到哪一层为止，可以从这些词元读出答案。回答的得分：{score}；换成另一个问题后：{other}。",
    "caption untelling": "回答的得分：{score}；换成另一个问题后：{other}。两者相差 {distance}，太小，或与替换的其他影响相比太小：没有可比较的。",
    "all of these": "以上全部", "all others": "其余全部",
    "outcome nothing": "隐藏所给内容几乎不改变什么：没有可解释的。", "outcome few": "忠实度 {ours}，其他顺序 {others}：块数太少，无法与偶然区分。",
    "outcome faithful": "忠实度 {ours}；其他顺序 {others}。", "outcome chance": "并不比偶然更忠实：{ours}；其他顺序 {others}，其中 {better} 更好。",
    work: "标注", review: "审核", overview: "概览", skipWork: "跳到条目", nameTitle: "您的名字？", nameHelp: "您的回答会以此名保存。", nameLabel: "名字", changeName: "换名字", leaveSure: "这里已开始的内容会丢失，继续吗？", nothingAsked: "还没有提问。", keep: "保存", leftBetter: "左边更好", rightBetter: "右边更好", guessed: "猜测",
    guessesOf: "猜测来自", textKeys: "Enter 保存，Shift Enter 换行，Ctrl 空格播放或暂停。", boxKeys: "用指针画框，或按 N 新建并用方向键移动（Shift：改变大小）。B 选下一个框，Delete 删除，数字选类别，Enter 保存。", boxes: "框", boxesOnPicture: "图片上的框",
    nothingLeft: "这里没有需要您处理的条目了，谢谢。", complete: "已完成", yours: "您的", skipItem: "跳过", undo: "撤销", notSaved: "未保存。", cannotShow: "无法显示，请跳过。", disputed: "意见不一", decided: "已决定。", passedOver: "已跳过", alpha: "一致性（Krippendorff α）",
    answersColumn: "回答数", goldColumn: "已知条目正确数", secondsColumn: "每个回答秒数", skillColumn: "能力（Dawid-Skene）",
    give: "贡献", mine: "我的", consent: "同意书", agree: "同意所选各项", nameHelpCollect: "您提供的内容以此名保存，对外发布时不含名字。", agreeTitle: "开始之前", version: "版本", needed: "不同意第一项则无法保存任何内容。", nothingToGive: "暂时没有需要您完成的内容，谢谢。您可以审核他人的内容。",
    nothingToReview: "现在没有需要审核的内容。", nothingMade: "还没有内容。", thanks: "已保存，谢谢。", another: "换一个", good: "可以", notGood: "不可以", back: "撤回", backAll: "全部撤回", backSure: "永久撤回这一项？", backAllSure: "永久撤回全部内容及同意？", gone: "项已删除。", notCleared: "部分副本未能清除，网站管理者会看到并处理。", accepted: "已通过", rejected: "未通过", open: "待审核",
    yourText: "您的文字", drawHere: "在此绘制", clear: "清除", chooseFile: "选择文件", level: "音量", recordAgain: "重新录音", tooLoud: "声音过大", tooQuiet: "声音过小", tooShort: "太短",
    seconds: "秒", image: "图片", audio: "声音", text: "文字", none: "-",
  },
};

let language = localStorage.getItem("plait.language") || (navigator.language.startsWith("zh") ? "zh" : "en");

export const current = () => language;

/** The words for a key in the chosen language; the key itself where there are none, as for a modality's name. */
export const t = (key) => WORDS[language][key] ?? WORDS.en[key] ?? key;

/** What the server says as `otherwise`, in the chosen language if it has the key: `{score}` stands for that of `figures`. */
export const inWords = (key, figures, otherwise) => WORDS[language][key]?.replace(/\{(\w+)\}/g, (_, name) => figures[name]) ?? otherwise;

/** Choose a language, and put its words into the fixed parts of the page. */
export function speak(chosen) {
  language = chosen in WORDS ? chosen : "en";
  localStorage.setItem("plait.language", language);
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
}
