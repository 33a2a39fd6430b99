//! Titles and tags of the seeded assets, and the one word that exactly twenty of them have.

use crate::random::Random;

/// The word that a search looks for: in the title of ten assets and a tag of ten others, spread over the library.
pub const RARE: &str = "kingfisher";
/// How many assets have it.
pub const RARE_COUNT: u32 = 20;

/// Several share three-letter pieces with the rare word, so that an index of such pieces has work to do.
const KINDS: [&str; 24] = [
    "Quiet",
    "Striking",
    "Fishing",
    "Baking",
    "Sunken",
    "Dishevelled",
    "Golden",
    "Kind",
    "Frozen",
    "Walking",
    "Fresh",
    "Distant",
    "Winter",
    "Singing",
    "Amber",
    "Looking",
    "Northern",
    "Selfish",
    "Ringing",
    "Broken",
    "Summer",
    "Turkish",
    "Painted",
    "Hidden",
];
const THINGS: [&str; 24] = [
    "harbour",
    "king",
    "fisher",
    "viking",
    "lighthouse",
    "dish",
    "kingdom",
    "meadow",
    "finger",
    "orchard",
    "stockings",
    "herring",
    "bridge",
    "parking",
    "shepherd",
    "wishes",
    "tower",
    "market",
    "kitchen",
    "archive",
    "portrait",
    "parish",
    "river",
    "signal",
];
const PLACES: [&str; 16] = [
    "Visby",
    "Bergen",
    "Helsinki",
    "Reykjavik",
    "Dresden",
    "Kraków",
    "Porto",
    "Québec",
    "Kyōto",
    "Hobart",
    "Tallinn",
    "Zagreb",
    "Lagos",
    "Quito",
    "Hanoi",
    "Perth",
];
const TAGS: [&str; 12] = [
    "press", "archive", "coast", "people", "night", "draft", "campaign", "cooking", "shipping", "friends",
    "portrait", "map",
];

/// The title of the asset with this number among `assets`.
#[must_use]
pub fn title(number: u32, assets: u32) -> String {
    let mut random = Random::new(number.into());
    let (kind, thing, place) = (random.pick(&KINDS), random.pick(&THINGS), random.pick(&PLACES));
    match rare(number, assets) {
        Some(which) if which % 2 == 0 => format!("{kind} {RARE} near {place} {number}"),
        _ => format!("{kind} {thing} near {place} {number}"),
    }
}

/// Its tags.
#[must_use]
pub fn tags(number: u32, assets: u32) -> Vec<String> {
    let mut random = Random::new(!u64::from(number));
    let mut tags = vec![random.pick(&TAGS[..6]).to_owned(), random.pick(&TAGS[6..]).to_owned()];
    if rare(number, assets).is_some_and(|which| which % 2 == 1) {
        tags.push(RARE.to_owned());
    }
    tags
}

/// The numbers of the assets that have the rare word.
pub fn with_rare_word(assets: u32) -> impl Iterator<Item = u32> {
    (0..assets).filter(move |number| rare(*number, assets).is_some())
}

/// Which of those with the rare word it is, if it is one.
fn rare(number: u32, assets: u32) -> Option<u64> {
    let (place, assets) = (u64::from(number) * u64::from(RARE_COUNT), u64::from(assets));
    (place % assets < u64::from(RARE_COUNT)).then_some(place / assets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_twenty_assets_have_the_rare_word_in_title_or_tags() {
        for assets in [100, 101, 1999, 100_000] {
            let found = (0..assets).filter(|number| {
                let (title, tags) = (title(*number, assets), tags(*number, assets));
                title.contains(RARE) || tags.iter().any(|tag| tag == RARE)
            });
            let found: Vec<u32> = found.collect();
            assert_eq!(found.len(), RARE_COUNT as usize, "{assets}");
            assert_eq!(found, with_rare_word(assets).collect::<Vec<_>>());
        }
    }
}
