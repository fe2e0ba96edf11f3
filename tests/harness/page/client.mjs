//! What a web editor does, without the editor: it runs in the browser and uses the npm client.

import { ConnectionProvider, SocketIoTransportProvider, initializeProtocol } from 'open-collaboration-protocol';

initializeProtocol({ cryptoModule: window.crypto });

const url = window.location.origin;
const state = { loginPage: '', heard: [], left: [], connection: undefined, transport: undefined, roomId: '' };
window.editor = state;

/** Keeps the transport that the client makes, so that the test can see its upgrade. */
const transports = {
    id: SocketIoTransportProvider.id,
    createTransport(...args) {
        state.transport = SocketIoTransportProvider.createTransport(...args);
        return state.transport;
    },
};

const provider = new ConnectionProvider({
    url,
    client: 'ctedge browser test',
    fetch: window.fetch.bind(window),
    async authenticationHandler(_token, metadata) {
        // A web editor opens the page in a tab; here the test does.
        state.loginPage = metadata.loginPageUrl;
        return true;
    },
    transports: [transports],
});

state.transportName = () => state.transport?.socket.io.engine?.transport.name;
state.cut = () => state.transport.socket.io.engine.close();

state.join = async roomId => {
    const { roomToken, host, workspace } = await provider.joinRoom({ roomId });
    await listen(await provider.connect(roomToken, host));
    return workspace.name;
};

state.host = async () => {
    const { roomId, roomToken } = await provider.createRoom({});
    state.roomId = roomId;
    const connection = await listen(await provider.connect(roomToken));
    connection.peer.onJoinRequest(async () => ({ workspace: { name: 'browser', folders: ['browser'] } }));
    connection.room.onJoin((_, peer) => {
        connection.peer.init(peer.id, {
            protocol: '0.3.1', host: state.peer, guests: [], capabilities: {}, permissions: { readonly: false },
            workspace: { name: 'browser', folders: ['browser'] },
        });
    });
    return roomId;
};

async function listen(connection) {
    state.connection = connection;
    connection.chat.onMessage((_, text) => state.heard.push(text));
    connection.room.onLeave((_, peer) => state.left.push(peer.name));
    const info = new Promise(resolve => connection.peer.onInfo((_, peer) => resolve(peer)));
    state.peer = await info;
    return connection;
}
