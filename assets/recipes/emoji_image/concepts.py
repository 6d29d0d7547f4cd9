"""What the model can draw: one word each, with the Noto emoji that shows it."""

# The order matters: a run on N concepts takes the first N. The first 96 are chosen to differ in outline and colour.
_WORDS = """
heart=red-heart star sun moon=crescent-moon apple=red-apple banana car=automobile rocket cat=cat-face dog=dog-face
fish=tropical-fish house tree=deciduous-tree flower=hibiscus ball=soccer-ball cup=hot-beverage key bell umbrella cloud
fire drop=droplet leaf=maple-leaf mushroom pizza gift=wrapped-gift book=green-book clock=alarm-clock guitar
boat=sailboat plane=airplane crown
frog panda tiger=tiger-face pig=pig-face rabbit=rabbit-face fox penguin owl duck butterfly bee=honeybee snail turtle
octopus crab whale=spouting-whale elephant chick=baby-chick ladybug=lady-beetle
lemon grapes strawberry cherries pear pineapple watermelon avocado carrot corn=ear-of-corn tomato burger=hamburger
donut=doughnut cake=birthday-cake candy cheese=cheese-wedge egg=cooking
balloon basketball bomb camera candle castle cactus diamond=gem-stone drum dice=game-die envelope ghost hat=top-hat
helicopter lamp=light-bulb lock=locked magnet microphone pencil phone=telephone rainbow robot rose scissors shield skull
snowman trophy
train=locomotive truck=delivery-truck tent tulip violin watch pumpkin=jack-o-lantern palm=palm-tree sunflower anchor
ufo=flying-saucer alien bus taxi tractor teapot bear lion koala monkey=monkey-face horse=horse-face cow=cow-face
dragon=dragon-face unicorn parrot snake dolphin eggplant peach tangerine cookie lollipop cupcake bread popcorn sushi
chair eye feather glasses hammer kite ladder mountain=snow-capped-mountain ring ship snowflake socks spider
sword=dagger trumpet volcano wheel bicycle axe broom brush=paintbrush bucket croissant bacon badger beans beaver
blossom bone boomerang bowling briefcase broccoli burrito butter calendar canoe coconut compass coral crayon
cricket crocodile cucumber cyclone deer desert dna dodo door dress dumpling eagle factory flamingo
flashlight flute fondue fountain garlic gear gloves goat gorilla hamster hedgehog hippo=hippopotamus jellyfish joker
kangaroo kiwi=kiwi-fruit lighthouse lizard llama lobster luggage mango mosquito motorcycle mouse=mouse-face onion
otter oyster pancakes parachute peacock peanuts pie pretzel raccoon radio razor rhino=rhinoceros rooster sandwich
saxophone scarf scroll seal shark shovel shrimp skateboard sled sloth spoon squid stadium steak=cut-of-meat swan taco
telescope toilet tooth tornado turkey waffle wolf wood worm wrench yarn zebra
"""


def _parse(words: str) -> dict[str, str]:
    concepts: dict[str, str] = {}
    for entry in words.split():
        word, _, icon = entry.partition("=")
        concepts.setdefault(word, icon or word)
    return concepts


ICONS: dict[str, str] = _parse(_WORDS)
