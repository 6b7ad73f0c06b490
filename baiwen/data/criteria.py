"""What a judge is asked unless a recipe says otherwise: six dimensions and twenty domains.

    rubric = Rubric(DIMENSIONS, DOMAINS)

The report names neither its dimensions nor its domains, but for six of these (section 3.1): of
those, e-commerce, social media and entertainment are there too often, technology, science and
academic matters too seldom.
"""

from baiwen.data.rubric import Dimension, Domain


def _dimension(name: str, question: str, *levels: str, low: bool = False) -> Dimension:
    return Dimension(name=name, question=question, levels=levels, better="low" if low else "high")


DIMENSIONS = (
    _dimension(
        "educational_value",
        "How much can a reader learn from it about the world, a subject or a skill?",
        "nothing: adverts, menus, gossip, lists of links",
        "a few facts beside other things",
        "some knowledge, without depth or order",
        "much: explains, gives reasons or examples",
        "as much as a good textbook, lecture or worked solution",
    ),
    _dimension(
        "correctness",
        "Are its statements true, and do its reasoning, numbers and code hold?",
        "mostly false, or made up",
        "several plain mistakes",
        "cannot be told, or a matter of opinion",
        "right but for trifles",
        "right throughout, with reasons or sources",
    ),
    _dimension(
        "clarity",
        "Is it well written: grammatical, coherent, easy to follow?",
        "cannot be followed: garbled, keywords in a row, a broken translation",
        "hard to follow",
        "understandable, with lapses",
        "clear",
        "clear, precise and well ordered throughout",
    ),
    _dimension(
        "completeness",
        "Does it stand on its own, with a beginning, an end and what its subject needs?",
        "a fragment without context",
        "the greater part is missing, or lies behind a link",
        "the main points, with gaps",
        "whole but for details",
        "whole, with all that it takes to understand it",
    ),
    _dimension(
        "noise",
        "How much is not content: navigation, boilerplate, adverts, repetition, broken marks?",
        "none",
        "a few lines",
        "a part that disturbs",
        "half or more",
        "nearly all",
        low=True,
    ),
    _dimension(
        "harmfulness",
        "Could it hurt people: hate, harassment, sexual content, violence, fraud, private data?",
        "not at all",
        "it touches such matters soberly",
        "it is coarse or careless",
        "parts of it do harm",
        "it is made to do harm",
        low=True,
    ),
)
DOMAINS = tuple(  # the first six are named in the report, section 3.1; the others are ours
    Domain(name=name, about=about)
    for name, about in {
        "e_commerce": "products, prices, shops, reviews of goods, classified adverts",
        "social_media": "posts, comments, chats, forums about daily life, dating",
        "entertainment": "film, television, music, games, celebrities, gossip, humour",
        "technology": "computers, software, programming, engineering, devices",
        "science": "nature and its study for all readers: physics, biology, space, mathematics",
        "academic": "papers, theses, textbooks, lecture notes, encyclopaedic articles",
        "news": "events of the day, reports, weather, announcements of the press",
        "politics": "government, parties, elections, international affairs, society",
        "law": "statutes, court decisions, contracts, patents, terms of use",
        "finance": "money, markets, companies, economics, property, jobs",
        "health": "medicine, illness, nutrition, fitness, psychology",
        "education": "schools, courses, exercises, examinations, teaching",
        "history": "the past, biography, archaeology, genealogy",
        "literature": "fiction, poetry, drama, essays, folklore",
        "religion": "faiths, scripture, philosophy, ethics",
        "arts": "fine arts, design, architecture, photography, museums",
        "sports": "matches, clubs, athletes, training",
        "travel": "places, hotels, transport, tourism, maps",
        "home": "cooking, garden, crafts, family, pets, fashion, vehicles",
        "other": "nothing of the above, or nothing that can be told",
    }.items()
)
