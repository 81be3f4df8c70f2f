import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.*;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.*;
import java.nio.charset.StandardCharsets;

/** A server of Netty's. */
class Netty {
    public static void main(String[] arguments) throws Exception {
        var group = new NioEventLoopGroup(2);
        var server = new ServerBootstrap().group(group)
            .channel(NioServerSocketChannel.class)
            .childHandler(new ChannelInitializer<SocketChannel>() {
                protected void initChannel(SocketChannel channel) {
                    channel.pipeline().addLast(new HttpServerCodec(), new SimpleChannelInboundHandler<HttpObject>() {
                        protected void channelRead0(ChannelHandlerContext context, HttpObject message) {
                            if (message instanceof LastHttpContent) answer(context);
                        }
                    });
                }
            })
            .bind("127.0.0.1", Integer.parseInt(System.getenv("PORT"))).sync().channel();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.close().syncUninterruptibly();
            group.shutdownGracefully(200, 2000, java.util.concurrent.TimeUnit.MILLISECONDS).syncUninterruptibly();
        }));
    }

    static void answer(ChannelHandlerContext context) {
        String body = "generation " + System.getenv("GATEWAY_GENERATION") + "\n";
        var response = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK, Unpooled.copiedBuffer(body, StandardCharsets.UTF_8));
        response.headers().set("Content-Length", body.length());
        context.writeAndFlush(response).addListener(ChannelFutureListener.CLOSE);
    }
}
