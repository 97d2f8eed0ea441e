//! The result: one row a goal, the product beside its floor, and whether the goal was met.

use serde_json::{Value, json};

/// A self-check that is off by more makes its rows noisy.
const NOISE: f64 = 0.10;

/// What a goal asks for.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Product / floor at most.
    AtMost(f64),
    /// Product / floor at least.
    AtLeast(f64),
    /// The product itself at most.
    Below(f64),
    /// The product itself at least.
    Above(f64),
    /// For information.
    None,
}

/// One measured goal.
#[derive(Debug, Clone)]
pub struct Row {
    goal: &'static str,
    what: String,
    unit: &'static str,
    product: f64,
    floor: f64,
    wanted: Goal,
    /// Floor against floor, in the same run.
    check: f64,
    note: String,
}

/// All rows so far.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Row {
    /// A row without a floor.
    #[must_use]
    pub fn new(goal: &'static str, what: impl Into<String>, unit: &'static str, product: f64) -> Self {
        let (floor, check) = (f64::NAN, 1.0);
        Self { goal, what: what.into(), unit, product, floor, wanted: Goal::None, check, note: String::new() }
    }

    /// What it is compared with.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// What is asked for.
    #[must_use]
    pub fn wants(mut self, wanted: Goal) -> Self {
        self.wanted = wanted;
        self
    }

    /// What the same program measured twice gave, one divided by the other.
    #[must_use]
    pub fn check(mut self, ratio: f64) -> Self {
        self.check = ratio;
        self
    }

    /// More to say.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn ratio(&self) -> f64 {
        self.product / self.floor
    }

    fn verdict(&self) -> &'static str {
        let met = match self.wanted {
            Goal::AtMost(most) => self.ratio() <= most,
            Goal::AtLeast(least) => self.ratio() >= least,
            Goal::Below(most) => self.product <= most,
            Goal::Above(least) => self.product >= least,
            Goal::None => return "",
        };
        match met {
            true => "met",
            false if (self.check - 1.0).abs() > NOISE => "noisy",
            false => "MISSED",
        }
    }

    fn wanted(&self) -> String {
        match self.wanted {
            Goal::AtMost(most) if most < 0.1 => format!("<= 1/{:.0}", 1.0 / most),
            Goal::AtMost(most) => format!("<= {most:.2}x"),
            Goal::AtLeast(least) => format!(">= {least:.2}x"),
            Goal::Below(most) => format!("<= {most:.1}"),
            Goal::Above(least) => format!(">= {least:.1}"),
            Goal::None => String::new(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "goal": self.goal, "what": self.what, "unit": self.unit, "product": self.product,
            "floor": self.floor, "ratio": self.ratio(), "wanted": self.wanted(), "self_check": self.check,
            "verdict": self.verdict(), "note": self.note,
        })
    }
}

impl Table {
    /// Adds a row, and prints it.
    pub fn row(&mut self, row: Row) {
        if self.0.is_empty() {
            println!(
                "{:4} {:46} {:>11} {:>11} {:>7} {:>9} {:>6} {:6} note",
                "goal", "what", "product", "floor", "ratio", "wanted", "A/A", ""
            );
        }
        let number = |value: f64| match value {
            value if value.is_nan() => "-".to_owned(),
            value if value.abs() < 0.1 => format!("{value:.4}"),
            value if value.abs() < 100.0 => format!("{value:.2}"),
            value => format!("{value:.0}"),
        };
        println!(
            "{:4} {:46} {:>11} {:>11} {:>7} {:>9} {:>6} {:6} {}",
            row.goal,
            format!("{} [{}]", row.what, row.unit),
            number(row.product),
            number(row.floor),
            number(row.ratio()),
            row.wanted(),
            number(row.check),
            row.verdict(),
            row.note
        );
        self.0.push(row);
    }

    /// Says something that has no number.
    pub fn say(&self, text: &str) {
        println!("     {text}");
    }

    /// Everything, for a program.
    #[must_use]
    pub fn json(&self) -> Value {
        Value::Array(self.0.iter().map(Row::json).collect())
    }

    /// How many goals were met, missed, and not decided because of noise.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |word| self.0.iter().filter(|row| row.verdict() == word).count();
        format!("{} met, {} missed, {} noisy", count("met"), count("MISSED"), count("noisy"))
    }
}
