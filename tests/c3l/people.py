"""Records as people have them: each shape of one conversation, and records that are no sample."""

QUESTION, ANSWER, IMAGE = "What is it?", "A cup.", "image-0.png"
ASK, SAY = {"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": ANSWER}
MORE = [{"from": "human", "value": "Is it red?"}, {"from": "gpt", "value": "Yes."}]


def llava(*messages, **fields):
    return {"id": "r", "image": IMAGE, "conversations": list(messages)} | fields


def text(content):
    return {"type": "text", "text": content}


SPELLINGS = [
    f"<image>\n{QUESTION}",
    f"{QUESTION}\n<image>",
    f"<image>{QUESTION}",
    f"<image> \r\n\r\n{QUESTION}",
    f"{QUESTION}  <image>\t",
    "What is<image>it?",
    "What is \n<image>\n it?",
    f"<Image>\n{QUESTION}",
    f"<Img><ImageHere></Img> {QUESTION}",
    f"<|image_1|>\n{QUESTION}",
    f"<|vision_start|><|image_pad|><|vision_end|>{QUESTION}",
    QUESTION,
]

READ = {
    "LLaVA": llava(ASK, SAY),
    "an image in a list": llava(ASK, SAY, image=[IMAGE]),
    "images in the plural": llava(ASK, SAY, image=None, images=[IMAGE]),
    "user and assistant": llava(ASK | {"from": "user"}, SAY | {"from": "assistant"}),
    "role and content": llava(
        {"role": "user", "content": ASK["value"]}, {"role": "assistant", "content": ANSWER}
    ),
    "a system message": llava({"from": "system", "value": "Be good."}, ASK, SAY),
    "messages of text": {
        "id": "r",
        "images": [IMAGE],
        "messages": [
            {"role": "user", "content": ASK["value"]},
            {"role": "assistant", "content": ANSWER},
        ],
    },
    "messages of parts": {
        "id": "r",
        "images": [IMAGE],
        "messages": [
            {"role": "system", "content": [text("Be good.")]},
            {"role": "user", "content": [{"type": "image"}, text(QUESTION)]},
            {"role": "assistant", "content": [text(ANSWER)]},
        ],
    },
    "an image in a part": {
        "id": "r",
        "messages": [
            {"role": "user", "content": [text(QUESTION), {"type": "image", "image": IMAGE}]},
            {"role": "assistant", "content": ANSWER},
        ],
    },
    "an image named in the question": {
        "id": "r",
        "conversations": [ASK | {"value": f"Picture 1: <img>{IMAGE}</img>\n{QUESTION}"}, SAY],
    },
    "texts of user and assistant": {
        "id": "r",
        "images": [IMAGE],
        "texts": [{"user": QUESTION, "assistant": ANSWER, "source": "chart2text"}],
    },
    "messages beside no conversations": {
        "id": "r",
        "image": IMAGE,
        "conversations": [],
        "messages": [ASK, SAY],
    },
    "texts that are no talk": {
        "id": "r",
        "image": IMAGE,
        "question": QUESTION,
        "answer": ANSWER,
        "texts": [],
    },
    "question and answer": {"id": "r", "image": IMAGE, "question": QUESTION, "answer": ANSWER},
}
"""One sample each, the same one."""

SET_ASIDE = {
    "text only": ("no_image", {"id": "t", "conversations": [MORE[0], MORE[1]]}),
    "an image of null": ("no_image", llava(ASK, SAY, image=None)),
    "an image without a name": ("no_image", llava(ASK, SAY, image=" ")),
    "no image in the list": ("no_image", llava(ASK, SAY, image=[])),
    "two images": ("two_images", llava(ASK, SAY, image=["a.png", "b.png"])),
    "two images beside one": ("two_images", llava(ASK, SAY, images=["a.png", "b.png"])),
    "two images in the question": (
        "two_images",
        {"conversations": [ASK | {"value": "<img>a.png</img> or <img>b.png</img>?"}, SAY]},
    ),
    "an image in the answer": ("image_in_answer", llava(ASK, SAY | {"value": "<image>\nA cup."})),
    "an image in our answer": (
        "image_in_answer",
        {"id": "r", "image": IMAGE, "question": QUESTION, "answer": "<image>"},
    ),
    "two places": ("two_images", llava({"from": "human", "value": "<image> <image> a"}, SAY)),
    "a place in two turns": ("two_images", llava(ASK, SAY, ASK, SAY)),
    "no message": ("no_answer", llava()),
    "the human alone": ("no_answer", llava(ASK)),
    "gpt alone": ("no_question", llava(SAY)),
    "an answer of null": ("no_answer", llava(ASK, SAY | {"value": None})),
    "an answer of a number": ("wrong_type", llava(ASK, SAY | {"value": 3})),
    "somebody else": ("unknown_speaker", llava(ASK, SAY | {"from": "tool"})),
    "text for messages": ("wrong_type", llava(conversations="Why?")),
    "a message of null": ("wrong_type", llava(None, None)),
    "an image of a number": ("wrong_type", llava(ASK, SAY, image=1.5)),
    "an id of a list": ("wrong_type", llava(ASK, SAY, id=[])),
    "another layout": ("unknown_layout", {"image": IMAGE, "text": "A cup."}),
    "no object": ("unknown_layout", 3),
    "half a letter": ("not_unicode", llava(ASK, SAY | {"value": "\ud800"})),
    "a question alone": ("no_answer", {"image": IMAGE, "question": QUESTION}),
    "an answer alone": ("no_question", {"image": IMAGE, "answer": ANSWER}),
}
"""No sample each, and why."""
