"""All that the Space says, in English and Chinese."""

from __future__ import annotations

import re
from pathlib import Path

from ..processing.edit_language import MEANINGS
from ..processing.errors import InputError
from .song_notes import in_chinese

LANGUAGES = ("en", "zh")
_LONGEST = 300  # characters of a message

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Intermezzo", "Intermezzo"),
    "tagline": (
        "Between what music looks like, what is said of it, and how it sounds",
        "在音乐的样子、言语与声音之间",
    ),
    "private": (
        "Everything happens on the machine that runs this page. What you give is deleted after an hour.",
        "一切都在运行本页的机器上完成；您提供的文件一小时后删除。",
    ),
    "examples": ("Or try", "或者试试"),
    "working": ("Working", "处理中"),
    "play": ("Play", "播放"),
    "pause": ("Pause", "暂停"),
    "stop": ("Back to the beginning", "回到开头"),
    "speed": ("Speed", "速度"),
    "loop": ("Repeat", "循环"),
    "download": ("Download", "下载"),
    # Read
    "read": ("Read", "识谱"),
    "read_lead": (
        "Guitar tablature in a picture or PDF becomes music you can hear, correct and keep.",
        "把图片或 PDF 中的吉他六线谱变成可以播放、修改和保存的音乐。",
    ),
    "drop": ("Picture or PDF", "图片或 PDF"),
    "drop_hint": (
        "Up to {mb} MB and {pages} pages. On a phone the camera opens from here.",
        "最大 {mb} MB，{pages} 页以内。在手机上可直接拍照。",
    ),
    "camera": ("Take a photo", "拍照"),
    "camera_close": ("Close the camera", "关闭相机"),
    "sheet_hint": ("The music will stand here, ready to play.", "乐谱会出现在这里，随即可以播放。"),
    "editor": ("alphaTex (change it, and the music follows)", "alphaTex（修改文字，乐谱随之改变）"),
    "line": ("Line {n}", "第 {n} 行"),
    "broken": ("This text can not be engraved.", "这段文字无法排成乐谱。"),
    "doubt": (
        "Bar {n}: more likely wrong than right; compare it with the picture",
        "第 {n} 小节：很可能有误，请与原图对照",
    ),
    "page": ("Page", "页"),
    "system": ("System", "谱行"),
    "finding": ("Looking for systems …", "正在寻找谱行……"),
    "reading": ("Reading page {page}: {systems} …", "正在读第 {page} 页：{systems}……"),
    "n_systems": ("{n} system|{n} systems", "{n} 行谱"),
    "n_bars": ("{n} bar|{n} bars", "{n} 小节"),
    "n_notes": ("{n} note|{n} notes", "{n} 个音"),
    "n_seconds": ("{n} s", "{n} 秒"),
    "unsure": ("bars in doubt: {bars}", "存疑的小节：{bars}"),
    "cut_off": (
        "the picture ends at the tab: if a line is cut off, strings are wrong; show a little more of the page",
        "谱线紧贴图片边缘：若有弦线被裁掉，弦号会出错；请多留一些边",
    ),
    "sure": ("no bar in doubt", "没有存疑的小节"),
    "only_pages": ("Only the first {pages} pages were read.", "只读了前 {pages} 页。"),
    "time_up": ("Stopped after {seconds} s; what was read is here.", "{seconds} 秒后已停止；已读的内容在此。"),
    # Edit
    "edit": ("Edit", "改谱"),
    "edit_lead": (
        "Say what to change in a tablature, in English or Chinese; it is changed exactly so.",
        "用中文或英文说要怎样改，六线谱便照此精确修改。",
    ),
    "edit_file": ("Picture, alphaTex, Guitar Pro or MusicXML", "图片、alphaTex、Guitar Pro 或 MusicXML"),
    "edit_score": ("alphaTex, Guitar Pro or MusicXML", "alphaTex、Guitar Pro 或 MusicXML"),
    "instruction": ("What to change", "要怎样改"),
    "instruction_hint": ("make it rock, up a whole tone", "改为摇滚风格，再升高一个全音"),
    "do_edit": ("Edit", "开始修改"),
    "go_on": ("Change this further", "在此基础上再改"),
    "before": ("Before", "修改前"),
    "after": ("After", "修改后"),
    "known_edits": ("What can be asked for", "可以怎样改"),
    "understood": ("Understood:", "理解为："),
    "understood_so": ("Understood, {chance} sure:", "理解为（把握 {chance}）："),
    "changed": ("Bar {n}: changed", "第 {n} 小节：有改动"),
    "bars_changed": ("Bars changed: {bars}", "有改动的小节：{bars}"),
    "all_changed": ("Every bar is changed.", "每个小节都有改动。"),
    "bars_became": ("{before} became {after}.", "{before}变成了{after}。"),
    "strings_changed": (
        "Every bar is written as before; the capo or the tuning is changed.",
        "各小节写法不变，变的是变调夹或调弦。",
    ),
    "from_picture": (
        "Read from the picture; a picture does not tell tuning and capo, so the usual ones are taken.",
        "已从图片读出；图片上看不出调弦和变调夹，按通常的处理。",
    ),
    "opened": ("Opened: {bars}", "已打开：{bars}"),
    "need_piece": (
        "Give a piece first: write alphaTex, choose a file, or take an example.",
        "请先给出乐谱：写 alphaTex、选文件，或选一个例子。",
    ),
    "need_instruction": ("Say what to change, such as “make it rock”.", "请说要怎样改，比如“改为摇滚风格”。"),
    "no_strings": (
        "This kind of file knows no strings and frets; give a picture, alphaTex, Guitar Pro or MusicXML.",
        "这种文件没有弦与品的信息；请给出图片、alphaTex、Guitar Pro 或 MusicXML。",
    ),
    "one_page": ("That has several pages; give one page.", "这里有好几页；请只给一页。"),
    # Paint
    "paint": ("Paint", "绘音"),
    "paint_lead": (
        "A piano roll grows out of nothing, or into the part of a piece that you cover.",
        "让钢琴卷帘从无到有，或补全您遮住的部分。",
    ),
    "piece": ("MIDI or MusicXML", "MIDI 或 MusicXML"),
    "blank": ("Blank", "空白"),
    "ode_to_joy": ("Ode to Joy", "欢乐颂"),
    "bars": ("Bars", "小节数"),
    "seed": ("Seed", "种子"),
    "closeness": ("Strength", "强度"),
    "wishes": ("Wishes", "愿望"),
    "as_it_comes": ("Any", "随意"),
    "cover": (
        "Drag over what should be painted anew. Keyboard: arrows choose a bar and octave, space covers it.",
        "拖动遮住要重画的部分。键盘：方向键选择小节与八度，空格键遮住。",
    ),
    "erase": ("Uncover", "擦除遮盖"),
    "clear": ("Uncover all", "全部露出"),
    "do_paint": ("Paint", "开始绘音"),
    "roll": ("Piano roll", "钢琴卷帘"),
    "painted": ("Painted {cells} cells in {seconds:.1f} s", "{seconds:.1f} 秒画了 {cells} 格"),
    "loaded": ("{bars} · cover what should change", "{bars} · 请遮住要改变的部分"),
    "nothing_hidden": (
        "Nothing is covered: drag over the roll to say what should be painted anew.",
        "还没有遮住任何部分：请在卷帘上拖动，选出要重画的地方。",
    ),
    # Compare
    "compare": ("Compare", "比较"),
    "compare_lead": (
        "How alike two pictures are in style, whatever they show.",
        "不论画了什么，两张图的风格有多相似。",
    ),
    "first": ("First picture", "第一张图"),
    "second": ("Second picture", "第二张图"),
    "do_compare": ("Compare", "比较"),
    "one_hand_lines": ("Two things, one style: lines", "同一风格：线条"),
    "one_hand_colours": ("Two things, one style: colours", "同一风格：色块"),
    "two_hands": ("One thing, two styles", "同一事物，两种风格"),
    "need_two": ("Give two pictures.", "请给出两张图。"),
    "similarity": ("style similarity", "风格相似度"),
    "one style": ("one style", "同一风格"),
    "likely one style": ("likely one style", "很可能同一风格"),
    "two styles": ("two styles", "两种风格"),
    "hard to say": ("hard to say", "难以判断"),
    "unknown_verdict": ("no known pairs to stand among", "没有可参照的图对"),
    "same_pairs": ("known pairs of one style", "已知同一风格的图对"),
    "different_pairs": ("known pairs of two styles", "已知两种风格的图对"),
    "where": ("Where it looked", "它看了哪里"),
    "near": ("Nearest words: {names}", "最接近的词：{names}"),
    # Draw
    "draw": ("Draw", "画谱"),
    "draw_lead": (
        "One model that writes pictures code by code draws the tablature of a text.",
        "一个逐码作画的模型，把文字画成六线谱。",
    ),
    "text": ("alphaTex", "alphaTex"),
    "guidance": ("Strength", "强度"),
    "chance": ("Draw with chance", "加入随机"),
    "do_draw": ("Draw", "开始画"),
    "drawn": ("As the model draws it", "模型所画"),
    "engraved": ("As an engraver sets it, to compare and play", "排版程序所排，供对照与播放"),
    # Compose
    "compose": ("Compose", "作曲"),
    "compose_lead": ("Words, or a picture, become a piece.", "把文字或图片变成一首曲子。"),
    "words": ("Words", "文字"),
    "words_hint": ("a calm waltz in A minor, sparse and low", "一首安静的圆舞曲，稀疏而低沉"),
    "or_picture": ("Or a picture", "或一张图"),
    "do_compose": ("Compose", "开始作曲"),
    "composed": ("Composed in {seconds:.1f} s", "{seconds:.1f} 秒作成"),
    "asked": ("asked for", "要求"),
    "measured": ("measured", "实测"),
    "kept": ("kept", "符合"),
    "need_words": ("Write some words, or give a picture.", "请写几个字，或给一张图。"),
    # Errors
    "too_large": ("{name} is larger than {mb} MB; make it smaller.", "{name} 超过 {mb} MB，请缩小。"),
    "too_many_pixels": (
        "{name} has {width} × {height} pixels; at most {most} million can be read here.",
        "{name} 有 {width} × {height} 像素；这里最多读 {most} 百万像素。",
    ),
    "too_long": ("That is too long: at most {most} can be handled here.", "太长了：这里最多处理 {most}。"),
    "not_found": ("This example is not here.", "找不到这个例子。"),
    "our_fault": (
        "Something went wrong here, not with what you gave. Please try again.",
        "这里出了问题，与您提供的内容无关，请再试一次。",
    ),
}

# Attributes of music and their classes; in English they are called what they are called in the package.
_MUSIC_ZH = {
    "tempo": "速度", "metre": "拍号", "key": "主音", "mode": "调式", "density": "疏密", "register": "音区",
    "polyphony": "厚薄", "range": "音域", "dynamics": "力度", "sustain": "音长", "leaps": "跳进", "bars": "小节数",
    "seconds": "秒数", "programs": "乐器", "kept": "符合", "sparse": "稀疏", "medium": "适中", "dense": "密集",
    "low": "低", "middle": "中", "high": "高", "thin": "薄", "full": "厚", "major": "大调", "minor": "小调",
    "very slow": "很慢", "slow": "慢", "calm": "平缓", "moderate": "中速", "fast": "快", "very fast": "很快",
    "narrow": "窄", "wide": "宽", "soft": "弱", "loud": "强", "short": "短", "long": "长", "stepwise": "级进",
    "leaping": "跳跃", "other": "其他", "above": "高于", "below": "低于", "bpm": "拍/分", "piano": "钢琴",
    "chromatic percussion": "有音高打击乐", "organ": "风琴", "guitar": "吉他", "bass": "贝斯", "strings": "弦乐",
    "ensemble": "合奏", "brass": "铜管", "reed": "簧管", "pipe": "笛类", "synth lead": "合成主音",
    "synth pad": "合成铺底", "synth effects": "合成效果", "ethnic": "民族乐器", "percussive": "打击乐",
    "sound effects": "音效", "drums": "鼓",
}  # fmt: skip
_MUSIC_WORDS = re.compile("|".join(rf"\b{word}\b" for word in sorted(_MUSIC_ZH, key=len, reverse=True)))

# Edits (`processing.edit_language`); in English they are described as in the package.
_EDITS_ZH = {
    "transpose": "所有音移动若干个半音",
    "key": "就近移调，使调号成为这个调的",
    "capo": "变调夹夹在此品；指法不变，音高改变（0 为取下）",
    "recapo": "变调夹夹在此品；音高不变，品位改变（0 为取下）",
    "tuning": "改用另一种调弦；音高不变，品位改变",
    "position": "同样的音，在这一品附近弹",
    "style": "用这种风格弹它的旋律或和弦",
    "simplify": "去掉装饰，和弦变小，不短于八分音符",
    "time": "所有音快一倍，或慢一倍",
    "bass": "在下方加一个低音声部",
    "melody": "只留最高的一条线",
    "metre": "同样的音，换一种小节线",
}

# What the verbs say most often to people; the rest is told in English after a Chinese beginning.
_IN_CHINESE = (
    (r"no tab staff", "没有找到六线谱（4 到 7 条平行线）；请裁剪或重拍，让线条清楚"),
    (r"shows \d+ score staves but no tab", "只有五线谱，没有六线谱；这里只能读六线谱（可带五线谱）"),
    (r"is not a picture that can be read", "这不是可读的图片；请存为 PNG、JPEG、TIFF、WebP 或 PDF"),
    (r"picture is damaged|page \d+ is damaged", "图片已损坏；请重新保存或下载"),
    (r"the file is empty", "文件是空的"),
    (r"locked with a password", "PDF 有密码；请另存一份没有密码的"),
    (r"is not a PDF that can be read|PDF has no pages", "这不是可读的 PDF；可能已损坏"),
    (r"too many to open", "图片像素太多，请缩小"),
    (r"has no notes|has drums only", "这个文件里没有可用的音"),
    (r"does not load as", "模型没有载入成功"),
    (r"instruction has \d+ characters, at most (\d+)", r"说明太长，最多 \1 个字"),
    (r"instruction says nothing to do", "没有看出要改什么；请换个说法"),
    (r"instruction is none that this can carry out", "这不是这里能做的修改；请看“可以怎样改”"),
    (r"instruction contradicts itself: ('.+?') and ('.+?')", r"要求自相矛盾：\1 与 \2；请只选其一"),
    (r"not sure what .*\(perhaps '(.+?)', (\d+%)\)", r"不确定您的意思（也许是 \1，\2）；请换个说法，或直接写修改语句"),
    (r"'(.+?)' changes nothing", r"\1 对这首曲子没有任何改变"),
    (r"'(.+?)' makes this piece unplayable", r"\1 之后一只手就弹不了了"),
    (r"'(.+?)' leaves bars of this piece open", r"\1 之后有的小节拍数不对，不能这样改"),
    (r"takes (\d+) of (\d+) notes off the fretboard", r"\2 个音里有 \1 个会超出指板；请少移一些"),
    (r"(?:signature of|capo is at|tuning is|metre is|played at fret) (\S+) already", r"已经是 \1 了"),
    (r"no capo to take off", "本来就没有变调夹"),
    (r"only (\d+%) of the notes can be had at fret (\d+)", r"第 \2 品附近只弹得到 \1 的音；请换一个把位"),
    (r"has no strings; edits work", "这一行谱没有弦；这里只能改六线谱"),
    (r"bar (\d+), voice \d+: .*edits need bars that close", r"第 \1 小节拍数不对；请先改好"),
    (r"styles are for guitars", "风格改编需要六根弦以上的吉他"),
    (r"bossa nova is in", "波萨诺瓦须是 4/4 或 2/4 拍；请先改拍号"),
    (r"room for a bass in only (\d+) of (\d+)", r"\2 个小节里只有 \1 个放得下低音"),
    (r"no whole number of eighths", "小节不是整数个八分音符，不能这样改"),
    (r"single line already", "本来就只有一条旋律"),
    (r"as simple as this gets", "已经够简单了"),
    (r"second voice already", "已经有第二个声部了"),
    (r"there is no music in it", "里面没有音乐"),
    (
        r"tuplet would have to be cut|tie would be torn|can not be made (?:shorter|longer)",
        "有的音这样改会被拆断，不能这样改",
    ),
)


class Refused(InputError):
    """Something that is not taken here; the message is in the person's language already."""


class Words:
    """The words of one language.

    Args:
        language: One of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise InputError(None, f"language is {language!r}; choose one of {', '.join(LANGUAGES)}")
        self.language = language

    def __getitem__(self, name: str) -> str:
        return _WORDS[name][LANGUAGES.index(self.language)]

    def say(self, name: str, /, **values: object) -> str:
        """A sentence with its blanks filled."""
        return self[name].format(**values)

    def count(self, name: str, number: object) -> str:
        """So many of something: `one|several` where a language tells them apart."""
        one, _, many = self[name].partition("|")
        return (many if many and number != 1 else one).format(n=number)

    def attribute(self, name: str) -> str:
        """An attribute of music, or a class of one."""
        return _MUSIC_ZH.get(name, name) if self.language == "zh" else name[:1].upper() + name[1:]

    def music(self, told: str) -> str:
        """What is told of music: classes and numbers. What stands in quotation marks is the visitor's own."""
        if self.language != "zh":
            return told
        parts = re.split(r'(".*")', told)
        return "".join(
            part if number % 2 else _MUSIC_WORDS.sub(lambda found: _MUSIC_ZH[found.group()], part)
            for number, part in enumerate(parts)
        )

    def remark(self, told: str) -> str:
        """A remark of `compose` on a song."""
        return in_chinese(told, self.music) if self.language == "zh" else told

    def edit(self, operation: str) -> str:
        """What an operation of the edit language does."""
        return _EDITS_ZH[operation] if self.language == "zh" else MEANINGS[operation]

    def problem(self, error: BaseException) -> str:
        """One friendly line about an error, without folders of the server."""
        if not isinstance(error, InputError):
            return self["our_fault"]
        message = _shortened(_without_folders(error.message))
        if isinstance(error, Refused):
            return message
        if self.language == "zh":
            for pattern, chinese in _IN_CHINESE:
                if found := re.search(pattern, message):
                    return f"{found.expand(chinese)}。"
            return f"无法处理：{message}"
        message = message[:1].upper() + message[1:]
        return message if message.endswith((".", "。", "…")) else f"{message}."


def _without_folders(text: str) -> str:
    """A message may name files where the server keeps them; people know them by name only."""
    return re.sub(r"(?:/[^\s/:]+)+/([^\s/:]+)", lambda found: Path(found[0]).name, text)


def _shortened(text: str) -> str:
    """A message may list all that alphaTab would have taken; its beginning says what is wrong."""
    return text if len(text) <= _LONGEST else text[:_LONGEST].rpartition(" ")[0].rstrip(",;:(") + " …"


__all__ = ["LANGUAGES", "Refused", "Words"]
