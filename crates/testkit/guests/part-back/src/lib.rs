//! A component that does for others what they ask it to, with whatever it was granted itself.

wit_bindgen::generate!({
    inline: "
        package fixture:parts;

        interface neighbour {
            act: func(target: string) -> string;
        }

        world back {
            export neighbour;
        }
    ",
});

struct Back;

impl exports::fixture::parts::neighbour::Guest for Back {
    fn act(target: String) -> String {
        acts::act(&target)
    }
}

export!(Back);
