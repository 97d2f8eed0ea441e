//! What the far side says back: the keeper to the launcher, and the fresh server process to the keeper.
//! Five bytes a message, written and read at once.

/// What went wrong on the far side, by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The keeper could not take its place, or its namespace is of no use.
    Contain,
    /// The server's process could not be made.
    Fork,
    /// The working directory.
    Directory,
    /// The program.
    Exec,
}

/// One message of the keeper, and of the fresh server process to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// In place; waits for the plan.
    Ready,
    /// The server runs.
    Started,
    /// It does not, with the error number.
    Failed(Stage, i32),
}

impl Report {
    /// Bytes of a message.
    pub const SIZE: usize = 5;

    /// To bytes.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        let (tag, errno) = match self {
            Self::Ready => (0, 0),
            Self::Started => (1, 0),
            Self::Failed(Stage::Contain, errno) => (2, errno),
            Self::Failed(Stage::Fork, errno) => (3, errno),
            Self::Failed(Stage::Directory, errno) => (4, errno),
            Self::Failed(Stage::Exec, errno) => (5, errno),
        };
        let [a, b, c, d] = errno.to_le_bytes();
        [tag, a, b, c, d]
    }

    /// From bytes.
    #[must_use]
    pub fn decode([tag, a, b, c, d]: [u8; Self::SIZE]) -> Option<Self> {
        let errno = i32::from_le_bytes([a, b, c, d]);
        let failed = |stage| Some(Self::Failed(stage, errno));
        match tag {
            0 => Some(Self::Ready),
            1 => Some(Self::Started),
            2 => failed(Stage::Contain),
            3 => failed(Stage::Fork),
            4 => failed(Stage::Directory),
            5 => failed(Stage::Exec),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_there_and_back() {
        let stages = [Stage::Contain, Stage::Fork, Stage::Directory, Stage::Exec];
        let failed = stages.map(|stage| Report::Failed(stage, -7));
        for report in [Report::Ready, Report::Started].into_iter().chain(failed) {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([9, 0, 0, 0, 0]), None);
    }
}
