//! A component of WASI 0.3 that does for others what they ask it to, with whatever it was granted itself.

wit_bindgen::generate!({
    inline: "
        package fixture:parts-async;

        interface neighbour {
            act: async func(target: string) -> string;
        }

        world back {
            export neighbour;
        }
    ",
});

struct Back;

impl exports::fixture::parts_async::neighbour::Guest for Back {
    async fn act(target: String) -> String {
        acts_p3::act(&target).await
    }
}

export!(Back);
