//! Writes what fuzzing of one target begins with: `cargo run -p corpus --example seeds -- TARGET FOLDER`.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = given.as_slice() else {
        return Err("give a target and a folder to write to".into());
    };
    fs::create_dir_all(folder)?;
    for (number, seed) in corpus::seeds(target).iter().enumerate() {
        fs::write(Path::new(folder).join(format!("seed-{number:02}")), seed)?;
    }
    Ok(())
}
