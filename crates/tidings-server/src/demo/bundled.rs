//! The bundled data: 100,000 orders, the same on every machine.
//!
//! Owns: making them. Does not know: who reads them.
//! Flow: a fixed seed → `orders.csv`.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Orders in the file.
pub(crate) const ROWS: usize = 100_000;

const COUNTRIES: [(&str, u32); 12] = [
    ("Germany", 19),
    ("France", 16),
    ("Italy", 12),
    ("Spain", 11),
    ("Poland", 9),
    ("Netherlands", 8),
    ("Sweden", 6),
    ("Portugal", 5),
    ("Austria", 5),
    ("Denmark", 4),
    ("Ireland", 3),
    ("Finland", 2),
];
const PRODUCTS: [(&str, &str, u32); 10] = [
    ("Books", "Field guide", 2_490),
    ("Books", "Atlas", 4_900),
    ("Home", "Desk lamp", 5_990),
    ("Home", "Wool blanket", 8_450),
    ("Kitchen", "Kettle", 6_900),
    ("Kitchen", "Chef's knife", 11_900),
    ("Outdoor", "Rain jacket", 12_950),
    ("Outdoor", "Head torch", 3_990),
    ("Paper", "Notebook", 1_290),
    ("Paper", "Fountain pen", 7_400),
];

/// Writes the file unless it is there. Returns its number of orders.
pub(crate) fn write(path: &Path) -> Result<usize> {
    if path.exists() {
        return Ok(ROWS);
    }
    let part = path.with_extension("part");
    let context = || format!("cannot write {}", part.display());
    let mut file = BufWriter::new(std::fs::File::create(&part).with_context(context)?);
    writeln!(file, "order_id,date,country,category,product,quantity,unit_price")?;
    let mut random = Random(2_026);
    for order in 1..=ROWS {
        // Later months sell a little more, so that the report has something to show.
        let month = 1 + (random.below(78)..78).len().isqrt().min(11);
        let day = 1 + random.below(28);
        let country = weighted(&mut random);
        let index = usize::try_from(random.below(10)).unwrap_or(0);
        let (category, product, cents) = PRODUCTS.get(index).copied().unwrap_or(("Books", "Atlas", 4_900));
        let quantity = 1 + random.below(4) * random.below(2);
        let price = f64::from(cents) / 100.0;
        writeln!(
            file,
            "{order},2026-{month:02}-{day:02},{country},{category},{product},{quantity},{price:.2}"
        )?;
    }
    file.flush()?;
    drop(file);
    std::fs::rename(&part, path).with_context(context)?;
    Ok(ROWS)
}

fn weighted(random: &mut Random) -> &'static str {
    let mut left = random.below(100);
    for (country, weight) in COUNTRIES {
        if left < weight {
            return country;
        }
        left -= weight;
    }
    "Germany"
}

/// A small generator, so that the data is the same everywhere (PCG's output is not needed here).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(((self.0 >> 33) * u64::from(end)) >> 31).unwrap_or(0)
    }
}
