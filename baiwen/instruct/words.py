"""The closed lists that tasks draw from: few and short, so a model of a few million parameters can
know each of them, and what it has to learn is the task.

    NOUNS[0] -> "apple"      CITIES[0] -> "Athens"      ZH_NAMES[0] -> "小明"
"""


def _words(text: str) -> list[str]:
    return text.split()


NOUNS = _words("""
    apple arm axe baby bag ball bank bath bean bear bed bee bell bird boat bone book
    boot bowl box boy bread brick bus cake camel candle cap car card cat chair child
    city clock cloud coat coin cook corn cow cup desk dog door dress drum duck ear egg
    eye face fan farm fire fish flag flower foot fork fox frog game garden gate girl
    glass glove goat gold grass hair hand hat hen hill honey horse house ice ink island
    jam jar key king kite knife lake lamp leaf leg lemon letter lion map mask meal milk
    mirror money moon mouse nail neck needle nest net night nose nut ocean oil onion owl
    paint paper park path pear pen piano picture pig pin plane plant plate pond pool
    queen rabbit rain ring river road rock roof room root rope rose salt sand school sea
    seed sheep ship shirt shoe shop sky snail snow soap sock song soup spoon star stone
    sugar sun table tail tea tent tiger tool tooth town toy train tree truck violin wall
    watch water well wheel wind window wine wing winter wolf wood yard
""")

NAMES = _words("""
    Adam Alice Amy Anna Ben Bob Carl Clara Dan David Emma Eva Frank Grace Hans Helen
    Ivan Jack Jane John Kate Laura Leo Lily Lucy Mark Mary Max Nick Nina Oscar Paul
    Peter Rosa Ruth Sam Sara Tom Victor Zoe
""")

CITIES = _words("""
    Athens Berlin Boston Cairo Delhi Dublin Geneva Havana Kyoto Lima Lisbon London
    Madrid Milan Moscow Oslo Paris Prague Rome Seoul Sydney Tokyo Vienna Warsaw
""")

JOBS = _words("""
    baker cook dancer doctor driver farmer judge lawyer nurse painter pilot poet sailor
    singer teacher writer
""")

ZH_NAMES = _words("""
    小明 小红 小刚 小丽 小华 小军 小芳 小龙 小玉 小云 大山 大海 王伟 李娜
    张强 刘洋
""")

ZH_CITIES = _words("""
    北京 上海 广州 深圳 南京 杭州 成都 西安 武汉 天津 重庆 苏州 长沙 青岛
    大连 厦门
""")

ZH_NOUNS = _words("""
    苹果 梨 桃 水 火 山 石 木 花 草 鸟 鱼 马 牛 羊 狗 猫 车 船 书 笔
    门 灯 月 日 星 云 雨 雪 风
""")

ZH_JOBS = _words("医生 老师 司机 农民 工人 厨师 画家 作家 律师 歌手")
