"""What `compose` remarks on a song, in Chinese.

The verb tells it in English; here each sentence has its pattern. What stands in quotation marks is the visitor's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: Patterns of whole remarks, and what they are in Chinese; {1}, {2} are their groups, {music:1} one in musical words.
_REMARKS = (
    (r"(\w+): (.+) is counted, not what (.+) suggests", "{music:1}：按{2}，不按{3}的意象"),
    (
        r"the words contradict each other about (\w+) \((.+)\): it is not counted",
        "关于{music:1}的说法互相矛盾（{2}），不计入",
    ),
    (
        r"the words contradict each other about (\w+) \((.+)\): the number is counted",
        "关于{music:1}的说法互相矛盾（{2}），以数字为准",
    ),
    (
        r"the images contradict each other about (\w+) \((.+)\): it is not counted",
        "几个意象在{music:1}上互相矛盾（{2}），不计入",
    ),
    (r'"(.+)" is not looked up: what it asks for is open', "“{1}”是否定的说法，不作要求"),
    (r"read as: (.+)", "读作：{1}"),
    (r"nothing in these words is known to me: composed without a wish", "这些文字里没有认得的词，没有按要求作曲"),
    (
        r"the text encoder was not made for (\w+) letters: the music may not follow the words",
        "文字编码器不认识这种文字（{1}），音乐未必合乎文意",
    ),
    (
        r"the list of words \(English, Chinese\) has none of these: .+",
        "词表（中英文）里没有这些词：只由文字编码器决定，没有可比较的要求",
    ),
    (r"heard as a picture: (.+)", "听出的意象：{music:1}"),
    (r'looks most like "(.+)" \((.+)\)', "看起来最像“{1}”（{2}）"),
    (
        r"(\d+) bars: (\d+) plans of (\d+) bars, as they were learnt, one after the other",
        "{1} 小节：{2} 段，每段 {3} 小节，依次相接",
    ),
    (
        r"no text of more than (\d+) bars was learnt: the music may lose its thread",
        "没有学过超过 {1} 小节的曲子，后面可能失去条理",
    ),
    (r".+: no pitched note sounds, so there is nothing to measure", "没有发出有音高的音，无从测量"),
    (r".+: no key can be heard in it, so it can not be moved to (.+)", "听不出调，无法移到 {1}"),
    (r".+: it reaches too far to be moved to (.+)", "音域太宽，无法移到 {1}"),
    (r".+: moved by ([+-]\d+) semitones to (.+?)(?:; .+)?", "移了 {1} 个半音，到 {music:2}"),
    (r"the text has (\d+) characters; the first (\d+) are read", "文字有 {1} 字，只读前 {2} 字"),
)


def in_chinese(remark: str, music: Callable[[str], str]) -> str:
    """A remark in Chinese; one that has no pattern as it is.

    Args:
        remark: A line of `ComposeResult.notes`.
        music: Turns the name of an attribute into Chinese.
    """
    for pattern, chinese in _REMARKS:
        found = re.fullmatch(pattern, remark)
        if found:
            spoken = chinese
            for number, part in enumerate(found.groups(), 1):
                spoken = spoken.replace(f"{{music:{number}}}", music(part)).replace(f"{{{number}}}", part)
            return spoken
    return remark


__all__ = ["in_chinese"]
